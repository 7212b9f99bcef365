//! `kiln explain --ablate`: what each pass is worth on this machine, measured by leaving it out.

use std::hint::black_box;
use std::time::{Duration, Instant};

use kiln::{Datum, Model, Options, Session};
use kiln_passes::Report;

use crate::failure::Failure;
use crate::inputs::Feeding;
use crate::show;

/// How long the runs of one pass may take together; at least `FEWEST` are made.
const SPAN: Duration = Duration::from_millis(1500);
const FEWEST: usize = 5;
const MOST: usize = 2000;

/// What leaving out a pass does to the time of a run.
struct Worth {
    pass: &'static str,
    fired: usize,
    /// Median times of a run in nanoseconds, with all passes and without this one.
    times: [u64; 2],
    /// The median of the ratios of neighbouring runs, without to with, and how far it may be off.
    ratio: (f64, f64),
}

/// A line for each pass that fired, the most worth first.
///
/// Each time, both variants run in turn on the same made-up inputs, so that a busy machine slows
/// both. Other passes may do what the one that is left out would have done.
pub fn measure(model: &Model, options: &Options, done: &Report) -> Result<String, Failure> {
    let whole = model.compile(options)?;
    let limits = model.limits().within(model.nbytes());
    let inputs = Feeding::default().resolve(whole.inputs(), options.seed, &limits)?;
    let mut all = Vec::new();
    for pass in done.passes.iter().filter(|p| p.fired > 0) {
        let mut without = options.clone();
        without.skip.push(pass.name.to_owned());
        let without = model.compile(&without)?;
        let (times, ratio) = race(&whole, &without, &inputs)?;
        all.push(Worth { pass: pass.name, fired: pass.fired, times, ratio });
    }
    all.sort_by(|a, b| b.ratio.0.total_cmp(&a.ratio.0));
    Ok(table(&all))
}

fn race(
    with: &Session,
    without: &Session,
    inputs: &[(String, Datum)],
) -> Result<([u64; 2], (f64, f64)), Failure> {
    let time = |session: &Session| -> kiln::Result<u64> {
        let fed = inputs.to_vec();
        let start = Instant::now();
        black_box(session.run(fed)?);
        Ok(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1))
    };
    // The first runs pay for memory.
    time(with)?;
    time(without)?;
    let (mut pairs, start) = (Vec::new(), Instant::now());
    while pairs.len() < FEWEST || pairs.len() < MOST && start.elapsed() < SPAN {
        // Who runs second finds the caches warm: take turns.
        pairs.push(match pairs.len() % 2 {
            0 => (time(with)?, time(without)?),
            _ => {
                let slow = time(without)?;
                (time(with)?, slow)
            }
        });
    }
    let ratios = pairs.iter().map(|(with, without)| *without as f64 / *with as f64).collect();
    let (with, without): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    Ok(([middle(with), middle(without)], median(ratios)))
}

fn middle(mut times: Vec<u64>) -> u64 {
    times.sort_unstable();
    times[times.len() / 2]
}

/// The median, and half the width of its interval of 95 % (the notch of a box plot).
fn median(mut all: Vec<f64>) -> (f64, f64) {
    all.sort_by(f64::total_cmp);
    let at = |share: f64| all[((all.len() - 1) as f64 * share).round() as usize];
    (at(0.5), 1.57 * (at(0.75) - at(0.25)) / (all.len() as f64).sqrt())
}

fn table(all: &[Worth]) -> String {
    let head = ["pass", "fired", "with ms", "without ms", "worth"].map(str::to_owned);
    let mut rows = vec![head.to_vec()];
    for w in all {
        let [with, without] = w.times.map(|ns| show::float(ns as f64 / 1e6));
        let (ratio, off) = w.ratio;
        let worth = match (ratio - 1.0).abs() > off {
            true => format!("{:+.1} % ± {:.1}", (ratio - 1.0) * 1e2, off * 1e2),
            false => format!("none seen (± {:.1} %)", off * 1e2),
        };
        rows.push(vec![w.pass.to_owned(), w.fired.to_string(), with, without, worth]);
    }
    show::table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_have_notches() {
        let (middle, off) = median(vec![4.0, 1.0, 2.0, 5.0, 3.0]);
        assert_eq!(middle, 3.0);
        assert!((off - 1.57 * 2.0 / 5f64.sqrt()).abs() < 1e-12);
        assert_eq!(median(vec![2.0]), (2.0, 0.0));
    }

    #[test]
    fn what_noise_hides_is_not_told_as_worth() {
        let worth = |ratio| Worth { pass: "fold", fired: 2, times: [1_000_000; 2], ratio };
        let text = table(&[worth((1.25, 0.01)), worth((1.01, 0.02))]);
        assert!(text.contains("+25.0 % ± 1.0"), "{text}");
        assert!(text.contains("none seen (± 2.0 %)"), "{text}");
    }
}
