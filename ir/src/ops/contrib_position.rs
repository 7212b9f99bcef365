//! Places in texts and pictures, of `com.microsoft`: biases of attention, and rotations.
//!
//! ```text
//! b = com.microsoft.RelativePositionBias(table: f32[N,H], q: i64[], k: i64[]) {max_distance=128}
//! y = com.microsoft.MRotaryEmbedding(x: f32[B,S,D], places: i64[3,B,S], cos, sin)
//!   => y = RotaryEmbedding(x, of the angles of time, height and width)
//! ```

use kiln_tensor::{DType, Tensor};

use crate::{Attrs, Build, Built, Error, Result, Schema, Value, invalid};

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema { name: "com.microsoft.MRotaryEmbedding", since: 1, build: rotary },
    Schema { name: "com.microsoft.RelativePositionBias", since: 1, build: bias },
];

/// Which of time, height and width turns each pair.
fn streams(sections: &[i64], interleaved: bool) -> Result<Vec<usize>> {
    let &[time, height, width] = sections else {
        invalid!("mrope_section has {} lengths, expected 3", sections.len());
    };
    let total = time.checked_add(height).and_then(|n| n.checked_add(width));
    let Some(total) = total.filter(|&n| sections.iter().all(|&s| s >= 0) && n <= 1 << 20) else {
        invalid!("mrope_section is {sections:?}");
    };
    Ok((0..total)
        .map(|i| match (interleaved, i % 3) {
            (false, _) if i < time => 0,
            (false, _) if i < time + height => 1,
            (false, _) => 2,
            (true, 1) if i < 3 * height => 1,
            (true, 2) if i < 3 * width => 2,
            (true, _) => 0,
        })
        .collect())
}

/// The angles of each place, by the stream of each pair.
fn angles(b: &mut Build<'_>, cache: Value, of: &[usize]) -> Result<Value> {
    let places = b.input(1)?;
    let all = b.op("Gather", &[cache, places])?;
    let part = |b: &mut Build<'_>, i: i64| -> Result<Value> {
        let i = b.constant(Tensor::scalar(i));
        b.op_with("Gather", &[all, i], Attrs::default().with("axis", 0i64))
    };
    let mut angles = part(b, 0)?;
    for i in 1..3 {
        let mask = of.iter().map(|&s| s == i).collect::<Vec<_>>();
        let (mask, other) = (b.constant(Tensor::vector(mask)), part(b, i as i64)?);
        angles = b.op("Where", &[mask, other, angles])?;
    }
    Ok(angles)
}

fn rotary(b: &mut Build<'_>) -> Result<Built> {
    if b.take::<f32>("scale")?.is_some_and(|s| s != 1.0) {
        return Err(Error::unsupported("a scale other than 1 is not supported"));
    }
    if b.take::<i64>("is_packed_batching")?.is_some_and(|p| p != 0) {
        return Err(Error::unsupported("packed batches are not supported: unpack them"));
    }
    let sections = b.require::<Vec<i64>>("mrope_section")?;
    let layout = b.take::<i64>("mrope_layout")?.unwrap_or(0);
    let of = streams(&sections, layout == 1)?;
    let (x, cos, sin) = (b.input(0)?, b.input(2)?, b.input(3)?);
    let mut heads = b.take::<i64>("num_heads")?.unwrap_or(0);
    let turned = b.take::<i64>("rotary_embedding_dim")?.unwrap_or(0);
    let half = b.length(cos, -1, "the number of angles")?;
    if of.len() as i64 != half {
        invalid!("mrope_section {sections:?} are not the {half} angles of a place");
    }
    if heads == 0 && b.rank(0)? == Some(3) {
        heads = b.length(x, -1, "the length of a row")? / (2 * half);
    }
    let attrs = Attrs::default()
        .with("interleaved", b.take::<bool>("interleaved")?)
        .with("num_heads", heads)
        .with("rotary_embedding_dim", turned);
    let (cos, sin) = (angles(b, cos, &of)?, angles(b, sin, &of)?);
    Ok(b.op_with("RotaryEmbedding", &[x, cos, sin], attrs)?.into())
}

/// A number for each pair of places, by their distance: exact where near, by its logarithm
/// where far.
fn bias(b: &mut Build<'_>) -> Result<Built> {
    let both = b.take("is_bidirectional")?.unwrap_or(false);
    let most = b.require::<i64>("max_distance")?;
    let (table, queries, keys) = (b.input(0)?, b.input(1)?, b.input(2)?);
    let (all, heads) = (b.length(table, 0, "the table")?, b.length(table, 1, "the heads")?);
    let buckets = if both { all / 2 } else { all };
    let near = buckets / 2;
    if near < 1 || most <= near {
        invalid!("{all} numbers do not tell distances up to {most} apart");
    }
    let queries = places(b, queries)?;
    let (last, keys) = (b.ints(&[1]), places(b, keys)?);
    let queries = b.op("Unsqueeze", &[queries, last])?;
    // How far the key is behind the query.
    let behind = b.op("Sub", &[queries, keys])?;
    let zero = b.constant(Tensor::scalar(0i64));
    let distance = if both { b.op("Abs", &[behind])? } else { b.op("Max", &[behind, zero])? };
    let far = far_bucket(b, distance, [near, buckets, most])?;
    let near = b.constant(Tensor::scalar(near));
    let is_near = b.op("Less", &[distance, near])?;
    let mut bucket = b.op("Where", &[is_near, distance, far])?;
    if both {
        let (ahead, shift) = (b.op("Less", &[behind, zero])?, b.constant(Tensor::scalar(buckets)));
        let shift = b.op("Where", &[ahead, shift, zero])?;
        bucket = b.op("Add", &[bucket, shift])?;
    }
    // The table is stored head by head.
    let table = b.reshape(table, &[heads, all])?;
    let y = b.op_with("Gather", &[table, bucket], Attrs::default().with("axis", 1i64))?;
    let first = b.ints(&[0]);
    Ok(b.op("Unsqueeze", &[y, first])?.into())
}

/// `0, 1, ..` up to a number of one element.
fn places(b: &mut Build<'_>, n: Value) -> Result<Value> {
    let [zero, one] = [0i64, 1].map(|i| b.constant(Tensor::scalar(i)));
    let n = b.reshape(n, &[])?;
    b.op("Range", &[zero, n, one])
}

/// `near + log(distance / near) / log(most / near) * (buckets - near)`, less than `buckets`.
fn far_bucket(
    b: &mut Build<'_>,
    distance: Value,
    [near, buckets, most]: [i64; 3],
) -> Result<Value> {
    let one = b.constant(Tensor::scalar(1i64));
    let distance = b.op("Max", &[distance, one])?;
    let distance = b.cast(distance, DType::F32)?;
    let near_float = b.float(DType::F32, near as f64)?;
    let ratio = b.op("Div", &[distance, near_float])?;
    let log = b.op("Log", &[ratio])?;
    let whole = b.float(DType::F32, (most as f64 / near as f64).ln())?;
    let part = b.op("Div", &[log, whole])?;
    let count = b.float(DType::F32, (buckets - near) as f64)?;
    let step = b.op("Mul", &[part, count])?;
    let step = b.cast(step, DType::I64)?;
    let (near, last) = (b.constant(Tensor::scalar(near)), b.constant(Tensor::scalar(buckets - 1)));
    let bucket = b.op("Add", &[step, near])?;
    b.op("Min", &[bucket, last])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run1, t, types};

    #[test]
    fn pairs_turn_by_their_streams() {
        assert_eq!(streams(&[1, 2, 1], false).expect("four"), [0, 1, 1, 2]);
        assert_eq!(streams(&[4, 1, 1], true).expect("six"), [0, 1, 2, 0, 0, 0]);
        assert!(streams(&[1, -1, 1], false).is_err());
        // The first pair turns by time (place 0: not at all), the second by width (a quarter).
        let text = "y = com.microsoft.MRotaryEmbedding(x: f32[1,1,4], p: i64[3,1,1], c: f32[2,2], \
                    s: f32[2,2]) {mrope_section=[1,0,1]}\nreturn y";
        let inputs = [
            t(&[1, 1, 4], &[1., 2., 3., 4.]),
            Tensor::from_vec(&[3, 1, 1], vec![0i64, 0, 1]).expect("3x1x1"),
            t(&[2, 2], &[1., 1., 0., 0.]),
            t(&[2, 2], &[0., 0., 1., 1.]),
        ];
        assert_eq!(run1(text, &inputs).expect("runs"), t(&[1, 1, 4], &[1., -4., 3., 2.]));
        assert!(types(&text.replace("[1,0,1]", "[1,1,1]")).is_err());
    }

    #[test]
    fn distances_in_buckets() {
        let text = "y = com.microsoft.RelativePositionBias(t: f32[8,1], q: i64[1], k: i64[1]) \
                    {max_distance=16, is_bidirectional=1}\nreturn y";
        let table = t(&[8, 1], &[0., 1., 2., 3., 4., 5., 6., 7.]);
        let n = |n: i64| Tensor::vector(vec![n]);
        // 0 and 1 are exact, 2 to 5 are one bucket, what is farther another.
        let y = run1(text, &[table.clone(), n(1), n(7)]).expect("runs");
        assert_eq!(y, t(&[1, 1, 1, 7], &[0., 5., 6., 6., 6., 6., 7.]));
        let one = text.replace(", is_bidirectional=1", "");
        // 4 are exact; 4 and 5 are one bucket, 6 and 7 are another.
        let y = run1(&one, &[table, n(8), n(1)]).expect("runs");
        assert_eq!(y, t(&[1, 1, 8, 1], &[0., 1., 2., 3., 4., 4., 5., 5.]));
        assert!(types(&text.replace("max_distance=16", "max_distance=2")).is_err());
    }

    #[test]
    fn tables_are_stored_head_by_head() {
        let text = "y = com.microsoft.RelativePositionBias(t: f32[2,2], q: i64[1], k: i64[1]) \
                    {max_distance=4}\nreturn y";
        let n = Tensor::vector(vec![2i64]);
        let y = run1(text, &[t(&[2, 2], &[0., 1., 10., 11.]), n.clone(), n]).expect("runs");
        assert_eq!(y, t(&[1, 2, 2, 2], &[0., 0., 1., 0., 10., 10., 11., 10.]));
    }
}
