//! Functions of attention that are written with other operators: `SwiGLU`, `FlexAttention`.
//!
//! ```text
//! y = SwiGLU(a: f32[N], b: f32[N]) {alpha=2.0}
//!   => s = Swish(a) {alpha=2.0}; y = Mul(s, b)
//! y = FlexAttention(q, k, v) {score_mod=f, prob_mod=g}
//!   => y = MatMul(g(Softmax(f(MatMul(q, k^T)))), v)
//! ```

use std::sync::Arc;

use kiln_tensor::DType;

use super::control::{captures, inline};
use crate::{Attrs, Build, Built, Graph, Result, Schema, Value, invalid};

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema {
        name: "SwiGLU",
        since: 28,
        build: |b| {
            let (gate, linear) = (b.input(0)?, b.input(1)?);
            let alpha = b.take::<f32>("alpha")?.unwrap_or(1.0);
            let gate = b.op_with("Swish", &[gate], Attrs::default().with("alpha", alpha))?;
            Ok(b.op("Mul", &[gate, linear])?.into())
        },
    },
    Schema { name: "ai.onnx.preview.FlexAttention", since: 1, build: flex_attention },
];

fn flex_attention(b: &mut Build<'_>) -> Result<Built> {
    let captures = captures(b)?;
    let captured = b.inputs.split_off(b.inputs.len() - captures);
    let captured: Vec<Value> = captured.into_iter().flatten().collect();
    let (q, k, v) = (b.input(0)?, b.input(1)?, b.input(2)?);
    let dtype = b.dtype(0)?;
    let wide = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let precision = b.take::<DType>("softmax_precision")?.unwrap_or(wide);
    let scale = match b.take::<f32>("scale")? {
        Some(s) => f64::from(s),
        None => 1.0 / (b.length(q, -1, "the length of a query")? as f64).sqrt(),
    };
    let (k, v) = (shared(b, q, k)?, shared(b, q, v)?);
    // The root on both sides keeps the products of halves small.
    let root = b.float(dtype, scale.sqrt())?;
    let (q, k) = (b.op("Mul", &[q, root])?, b.op("Mul", &[k, root])?);
    let k = b.transpose(k, &[0, 1, 3, 2])?;
    let mut x = b.op("MatMul", &[q, k])?;
    x = b.cast(x, precision)?;
    x = modified(b, "score_mod", x, &captured)?;
    x = b.op_with("Softmax", &[x], Attrs::default().with("axis", -1i64))?;
    x = modified(b, "prob_mod", x, &captured)?;
    let v = b.cast(v, precision)?;
    let y = b.op("MatMul", &[x, v])?;
    Ok(b.cast(y, dtype)?.into())
}

/// What a body makes of a value; the value itself where there is no body.
fn modified(b: &mut Build<'_>, name: &str, x: Value, captured: &[Value]) -> Result<Value> {
    let Some(body) = b.take::<Arc<Graph>>(name)? else { return Ok(x) };
    let mut inputs = vec![x];
    inputs.extend_from_slice(captured);
    match inline(b.graph, &body, &inputs)?[..] {
        [y] => Ok(y),
        ref outputs => invalid!("{name} has {} outputs, it must have one", outputs.len()),
    }
}

/// Keys or values with as many heads as there are of queries.
fn shared(b: &mut Build<'_>, q: Value, kv: Value) -> Result<Value> {
    let heads = |b: &Build<'_>, v| b.length(v, 1, "the number of heads");
    let same = b.dim(q, 1)?.is_some_and(|n| b.dim(kv, 1).is_ok_and(|m| m == Some(n)));
    if same {
        return Ok(kv);
    }
    let (n, m) = (heads(b, q)?, heads(b, kv)?);
    if n % m != 0 || n > 1 << 20 {
        invalid!("{m} heads of keys cannot serve {n} heads of queries");
    }
    let serving: Vec<i64> = (0..n).map(|h| h / (n / m)).collect();
    let serving = b.ints(&serving);
    b.op_with("Gather", &[kv, serving], Attrs::default().with("axis", 1i64))
}

#[cfg(test)]
mod tests {
    use crate::ops::testing::{assert_close, run1, t, types};

    #[test]
    fn gates() {
        let text = "y = SwiGLU(a: f32[2], b: f32[2]) {alpha=2.0}\nreturn y";
        let y = run1(text, &[t(&[2], &[0.0, 0.5]), t(&[2], &[5.0, 4.0])]).expect("runs");
        assert_close(y.as_slice::<f32>().expect("f32"), &[0.0, 1.462_117_2], 1e-6);
    }

    #[test]
    fn bodies_see_scores_and_weights() {
        let text = "y = ai.onnx.preview.FlexAttention(q: f32[1,2,1,1], k: f32[1,1,2,1], \
                    v: f32[1,1,2,1]) {scale=1.0, prob_mod=graph {\n \
                    p: f32[1,2,1,2]\n two = Add(p, p)\n return two\n}}\nreturn y";
        assert_eq!(types(text).expect("types"), ["f32[1,2,1,1]"]);
        let k = t(&[1, 1, 2, 1], &[0.0, 3f32.ln()]);
        let y = run1(text, &[t(&[1, 2, 1, 1], &[1.0, 0.0]), k, t(&[1, 1, 2, 1], &[4.0, 8.0])]);
        assert_close(y.expect("runs").as_slice::<f32>().expect("f32"), &[14.0, 12.0], 1e-5);
    }
}
