"""Tables of operators, one file for a kind, and what makes models of their rows."""


def tables():
    """Every row (and every case made by hand) of every table."""
    from . import chance, elementwise, graphs, image, layout, network, recurrent, reduce, sizes, structure, written

    for table in (chance, elementwise, graphs, image, layout, network, recurrent, reduce, sizes, structure, written):
        yield from table.rows()
