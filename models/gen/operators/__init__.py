"""Tables of operators, one file for a kind, and what makes models of their rows."""


def tables():
    """Every row (and every case made by hand) of every table."""
    from . import elementwise, layout, reduce

    for table in (elementwise, layout, reduce):
        yield from table.rows()
