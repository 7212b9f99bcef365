//! The text of a graph says all of it.

use kiln_ir::{Context, eval, text, verify};
use kiln_testing::{Tolerance, compare, random, values};

#[test]
fn what_is_printed_parses_to_the_same_graph() {
    for seed in 0..200 {
        let g = random::graph(seed, 14);
        let printed = text::print_full(&g);
        let again = text::parse(&printed).unwrap_or_else(|e| panic!("seed {seed}: {e}\n{printed}"));
        verify::verify(&again).expect("valid");
        assert_eq!(text::print_full(&again), printed, "seed {seed}");
        let run = |g| {
            let inputs = values::inputs(g, 2, seed).expect("made");
            eval::run(g, &Context::default(), inputs).expect("runs")
        };
        for (want, got) in run(&g).iter().zip(&run(&again)) {
            let same = compare(want, got, Some(Tolerance::EXACT));
            same.unwrap_or_else(|e| panic!("seed {seed}: {e}\n{printed}"));
        }
    }
}
