"""Recurrent layers and attention."""

from .case import row

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def layer(
    op, *, directions=1, bias=False, lens=False, initial=False, peephole=False, outputs=2, batch_first=False, **attrs
):
    """A layer of batch 2, 4 steps, 3 inputs and 2 cells."""
    steps, batch, width, hidden = 4, 2, 3, 2
    gates = GATES[op]
    x = (batch, steps, width) if batch_first else (steps, batch, width)
    state = (batch, directions, hidden) if batch_first else (directions, batch, hidden)
    inputs = [x, (directions, gates * hidden, width), (directions, gates * hidden, hidden)]
    inputs.append((directions, 2 * gates * hidden) if bias else None)
    inputs.append([3, 1] if lens else None)
    inputs.append(state if initial else None)
    if op == "LSTM":
        inputs += [state if initial else None, (directions, 3 * hidden) if peephole else None]
    while inputs[-1] is None:
        inputs.pop()
    if batch_first:
        attrs["layout"] = 1
    return row(op, *inputs, outputs=outputs, hidden_size=hidden, **attrs)


def layers():
    for op in GATES:
        outputs = 3 if op == "LSTM" else 2
        yield layer(op, outputs=outputs)
        yield layer(op, bias=True, outputs=1)
        yield layer(op, bias=True, initial=True, outputs=outputs)
        yield layer(op, bias=True, lens=True, outputs=outputs)
        yield layer(op, bias=True, lens=True, initial=True, directions=2, direction="bidirectional", outputs=outputs)
        yield layer(op, bias=True, lens=True, direction="reverse", outputs=outputs)
        yield layer(op, bias=True, initial=True, batch_first=True, outputs=outputs)
        yield layer(op, bias=True, clip=0.5, outputs=outputs)
        yield layer(op, bias=True, output_sequence=1, outputs=outputs)
        yield layer(op, bias=True, output_sequence=0, outputs=outputs)
    for name, alpha, beta in (
        ("Relu", None, None),
        ("LeakyRelu", 0.1, None),
        ("Affine", 0.5, 0.1),
        ("ThresholdedRelu", 0.3, None),
        ("ScaledTanh", 0.7, 0.5),
        ("HardSigmoid", 0.3, 0.4),
        ("Elu", 0.8, None),
        ("Softsign", None, None),
        ("Softplus", None, None),
        ("Sigmoid", None, None),
    ):
        extra = {k: [v] for k, v in (("activation_alpha", alpha), ("activation_beta", beta)) if v is not None}
        yield layer("RNN", bias=True, activations=[name], **extra)
    yield layer("RNN", activations=["Relu", "Tanh"], directions=2, direction="bidirectional")
    yield layer("RNN", activations=["HardSigmoid"])
    yield layer(
        "RNN", activations=["LeakyRelu", "Elu"], activation_alpha=[0.2, 0.4], directions=2, direction="bidirectional"
    )
    yield layer("GRU", bias=True, linear_before_reset=1)
    yield layer(
        "GRU", bias=True, linear_before_reset=1, lens=True, initial=True, directions=2, direction="bidirectional"
    )
    yield layer("GRU", bias=True, activations=["HardSigmoid", "Relu"], activation_alpha=[0.3], activation_beta=[0.4])
    yield layer("LSTM", bias=True, peephole=True, initial=True, outputs=3)
    yield layer(
        "LSTM", bias=True, peephole=True, initial=True, lens=True, outputs=3, directions=2, direction="bidirectional"
    )
    yield layer("LSTM", bias=True, input_forget=1, outputs=3)
    yield layer("LSTM", bias=True, activations=["Sigmoid", "Relu", "Softsign"], outputs=3)


def attention():
    q, kv = (2, 4, 3, 8), (2, 4, 5, 8)
    gqa = (2, 2, 5, 8)
    yield row("Attention", q, kv, kv)
    yield row("Attention", q, kv, (2, 4, 5, 6))
    yield row("Attention", q, gqa, gqa)
    yield row("Attention", q, kv, kv, scale=0.3, softcap=2.0)
    yield row("Attention", q, kv, kv, is_causal=1)
    yield row("Attention", q, kv, kv, (3, 5))
    yield row("Attention", q, kv, kv, (2, 1, 3, 5), is_causal=1)
    yield row("Attention", q, kv, kv, (2, 4, 3, 5))
    yield row("Attention", q, kv, kv, (1, 1, 3, 5))
    past = (2, 4, 2, 8)
    yield row("Attention", q, kv, kv, None, past, past, outputs=3)
    yield row("Attention", q, kv, kv, (3, 7), past, past, outputs=3, is_causal=1)
    yield row("Attention", q, kv, kv, None, past, past, outputs=3, is_causal=1)
    for mode in range(4):
        yield row("Attention", q, kv, kv, (3, 5), None, None, outputs=4, qk_matmul_output_mode=mode, versions=(99, 99))
        yield row("Attention", q, kv, kv, (3, 7), past, past, outputs=4, qk_matmul_output_mode=mode, softcap=1.5)
    yield row("Attention", (2, 3, 16), (2, 5, 16), (2, 5, 16), q_num_heads=4, kv_num_heads=4)
    yield row("Attention", (2, 3, 16), (2, 5, 8), (2, 5, 8), q_num_heads=4, kv_num_heads=2, is_causal=1)
    yield row(
        "Attention", (2, 3, 16), (2, 5, 16), (2, 5, 16), (3, 5), q_num_heads=4, kv_num_heads=4, softmax_precision=1
    )
    yield row("Attention", q, kv, kv, None, None, None, [3, 5])
    yield row("Attention", q, kv, kv, None, None, None, [3, 5], is_causal=1)
    yield row("Attention", q, kv, kv, left_window_size=1, right_window_size=1)
    yield row("Attention", q, kv, kv, left_window_size=1, is_causal=1)
    yield row("Attention", q, kv, kv, (3, 4), versions=(24, 99))
    yield row("RotaryEmbedding", (2, 4, 3, 8), (10, 4), (10, 4), [[0, 1, 2], [3, 5, 9]])
    yield row("RotaryEmbedding", (2, 4, 3, 8), (10, 4), (10, 4), [[0, 1, 2], [3, 5, 9]], interleaved=1)
    yield row("RotaryEmbedding", (2, 3, 16), (10, 4), (10, 4), [[0, 1, 2], [3, 5, 9]], num_heads=2)
    yield row("RotaryEmbedding", (2, 4, 3, 8), (2, 3, 4), (2, 3, 4))
    yield row("RotaryEmbedding", (2, 4, 3, 8), (10, 2), (10, 2), [[0, 1, 2], [3, 5, 9]], rotary_embedding_dim=4)
    yield row("RotaryEmbedding", (2, 3, 16), (2, 3, 2), (2, 3, 2), num_heads=2, rotary_embedding_dim=4, interleaved=1)
    heads = {"q_num_heads": 2, "kv_num_heads": 2}
    x = (2, 3, 8)
    for rule, extra in (
        ("linear", ()),
        ("gated", ((2, 3, 8),)),
        ("delta", (None, (2, 3, 2))),
        ("gated_delta", ((2, 3, 2), (2, 3, 2))),
    ):
        yield row("LinearAttention", x, x, x, None, *extra, outputs=2, update_rule=rule, **heads)
        yield row("LinearAttention", x, x, x, (2, 2, 4, 4), *extra, outputs=2, update_rule=rule, scale=0.5, **heads)


def rows():
    yield from layers()
    yield from attention()
