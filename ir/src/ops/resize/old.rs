//! Resizing as it was before its coordinates could be chosen: `asymmetric`, the nearest element
//! below where an axis grows and above where it shrinks.

use kiln_tensor::Tensor;

use super::{Coordinate, Mode, NearestMode, Resize, Sampling};
use crate::ops::variadic::Variadic;
use crate::{Attrs, Build, Built, Result, Value};

/// Resizes by the scales at input 1.
pub(super) fn build(b: &mut Build<'_>) -> Result<Built> {
    let mut sampling = Sampling::read(&mut Attrs::default())?;
    sampling.coordinate = Coordinate::Asymmetric;
    sampling.nearest_mode = NearestMode::Floor;
    sampling.mode = match b.take::<String>("mode")?.as_deref() {
        Some("linear" | "bilinear") => Mode::Linear,
        Some("cubic" | "bicubic") => Mode::Cubic,
        None | Some("nearest") => Mode::Nearest,
        Some(other) => crate::invalid!("attribute `mode`: `{other}` is neither nearest nor linear"),
    };
    let (x, scales) = (b.input(0)?, b.input(1)?);
    let known = b.constant_input(1).map(Tensor::to_vec::<f32>).transpose()?;
    let shrinks = known.as_ref().is_none_or(|s| s.iter().any(|&s| s < 1.0));
    let grows = known.as_ref().is_none_or(|s| s.iter().any(|&s| s > 1.0));
    if sampling.mode != Mode::Nearest || !shrinks {
        return Ok(resize(b, sampling, x, scales)?.into());
    }
    let ceil = Sampling { nearest_mode: NearestMode::Ceil, ..sampling.clone() };
    if !grows {
        return Ok(resize(b, ceil, x, scales)?.into());
    }
    let one = b.constant(Tensor::vector(vec![1f32]));
    let up = b.node(Variadic::Max, &[scales, one])?;
    let down = b.node(Variadic::Min, &[scales, one])?;
    let larger = resize(b, sampling, x, up)?;
    Ok(resize(b, ceil, larger, down)?.into())
}

/// Resizes by the attribute `scales`.
pub(super) fn build_by_attribute(b: &mut Build<'_>) -> Result<Built> {
    let scales: Vec<f32> = b.require("scales")?;
    let scales = b.constant(Tensor::vector(scales));
    b.set_input(1, Some(scales));
    build(b)
}

/// Resizes height and width of images.
pub(super) fn build_images(b: &mut Build<'_>) -> Result<Built> {
    let scales = vec![1.0, 1.0, b.require("height_scale")?, b.require("width_scale")?];
    let scales = b.constant(Tensor::vector::<f32>(scales));
    b.set_input(1, Some(scales));
    build(b)
}

fn resize(b: &mut Build<'_>, sampling: Sampling, x: Value, scales: Value) -> Result<Value> {
    let name = b.name.clone();
    let op = Resize { sampling: Box::new(sampling) };
    Ok(b.graph.add(&name, op, &[Some(x), None, Some(scales)])?.first())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{NodeSpec, add};
    use crate::{Context, Graph, Type, eval};
    use kiln_tensor::{DType, Datum};

    /// Runs an operator of an old version on 1 2 3 4.
    fn old(op: &str, opset: i64, attrs: Attrs, scales: Option<Vec<f32>>) -> Result<Vec<f32>> {
        let mut g = Graph::new();
        let dims = vec![1usize.into(), 1usize.into(), 1usize.into(), 4usize.into()];
        let x = g.input("x", Type::tensor(DType::F32, Some(dims)));
        let mut inputs = vec![Some(x)];
        inputs.extend(scales.map(|s| Some(g.constant("s", Tensor::vector(s)))));
        let y = add(&mut g, NodeSpec { op, opset, name: "y", inputs, attrs, outputs: 1 })?;
        g.set_outputs(vec![("y".into(), y[0])]);
        let x = Tensor::from_vec(&[1, 1, 1, 4], vec![1f32, 2.0, 3.0, 4.0])?;
        let out = eval::run(&g, &Context::default(), vec![Datum::Tensor(x)])?;
        Ok(out[0].as_tensor()?.to_vec()?)
    }

    #[test]
    fn nearest_elements_below_or_above() {
        let none = Attrs::default;
        let up = old("Upsample", 9, none(), Some(vec![1.0, 1.0, 1.0, 1.5])).expect("runs");
        assert_eq!(up, [1.0, 1.0, 2.0, 3.0, 3.0, 4.0]);
        let down = old("Resize", 10, none(), Some(vec![1.0, 1.0, 1.0, 0.6])).expect("runs");
        assert_eq!(down, [1.0, 3.0]);
        let both = old("Resize", 10, none(), Some(vec![1.0, 1.0, 2.0, 0.6])).expect("runs");
        assert_eq!(both, [1.0, 3.0, 1.0, 3.0]);
        let scales =
            none().with("scales", vec![1f32, 1.0, 1.0, 2.0]).with("mode", "linear".to_owned());
        let line = old("Upsample", 7, scales, None).expect("runs");
        assert_eq!(line, [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.0]);
        let image = none().with("height_scale", 2f32).with("width_scale", 1f32);
        let image = old("Upsample", 1, image, None).expect("runs");
        assert_eq!(image, [1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0]);
        let mode = none().with("mode", "sinc".to_owned());
        assert!(old("Upsample", 9, mode, Some(vec![1.0; 4])).is_err());
    }
}
