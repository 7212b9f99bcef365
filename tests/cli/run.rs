//! `kiln run` on one model.

use kiln::{Limits, Tensor, Type, npy, pb};

use super::*;

const LABELS: &str = "0, 0, 0, 0, 0, 0, 0, 0, …";

#[test]
fn a_summary_says_name_type_and_first_values() {
    let out = good(&["run", FOREST, "--inputs", FOREST_INPUTS]);
    let want = format!(
        "label          i64[30]    {LABELS}\nprobabilities  f32[30,3]  1, 0, 0, 1, 0, 0, 1, 0, …\n"
    );
    assert_eq!(out, want);
}

#[test]
fn inputs_come_from_every_kind_of_file() {
    let folder = Folder::new();
    let model = folder.write("m.onnx", &relu());
    let x = Tensor::vector(vec![-1.0f32, 2.5]);
    let npy = folder.write("x.npy", &npy::write(&x).expect("floats"));
    let pb = folder.write("input_0.pb", &pb::write(&x.into(), "x").expect("a tensor"));
    let want = "y  f32[2]  0, 2.5\n";
    assert_eq!(good(&["run", &model, "--input", &format!("x={npy}")]), want);
    assert_eq!(good(&["run", &model, "-i", &format!("x={pb}")]), want);
    assert_eq!(good(&["run", &model, "--inputs", &folder.path("")]), want);
    let member = format!("X={FOREST_INPUTS}:X");
    assert!(good(&["run", FOREST, "-i", &member]).starts_with("label"));
}

#[test]
fn outputs_go_to_files() {
    let folder = Folder::new();
    let model = folder.write("m.onnx", &relu());
    let x = folder.write("x.npy", &npy::write(&Tensor::vector(vec![-1.0f32, 2.5])).expect("f"));
    let (x, out) = (format!("x={x}"), folder.path("out/deep"));
    let y = format!("y={}", folder.path("y.npy"));
    assert_eq!(good(&["run", &model, "-i", &x, "--output-dir", &out, "-o", &y]), "");
    let want = Tensor::vector(vec![0.0f32, 2.5]);
    assert_eq!(npy::read(&read(&folder.path("y.npy")).into()), Ok(want.clone()));
    let bytes = read(&folder.path("out/deep/output_0.pb"));
    let declared = Type::tensor(want.dtype(), None);
    let got = pb::read(bytes.into(), &declared, &Limits::default()).expect("a tensor");
    assert_eq!(got.as_tensor(), Ok(&want));
    assert_eq!(folder.names(), ["m.onnx", "out", "x.npy", "y.npy"]);
}

#[test]
fn missing_inputs_are_made_up_and_said_so() {
    let folder = Folder::new();
    let model = folder.write("m.onnx", &relu());
    let run = |args: &[&str]| kiln(&[&["run", &model], args].concat());
    let one = run(&[]);
    assert_eq!((one.code, &*one.err), (0, "note: input `x` is made up: f32[1]\n"));
    let seven = run(&["--dim", "x_0=7", "--seed", "3"]);
    assert_eq!((seven.code, &*seven.err), (0, "note: input `x` is made up: f32[7]\n"));
    assert_eq!(seven.out, run(&["--dim", "x_0=7", "--seed", "3"]).out);
    assert_ne!(seven.out, run(&["--dim", "x_0=7", "--seed", "4"]).out);
}

#[test]
fn a_model_may_come_from_stdin() {
    let ended = kiln_fed(&["run", "-", "--seed", "1"], &relu());
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.out.starts_with("y  f32[1]  "), "{}", ended.out);
}

#[test]
fn levels_and_backends_agree() {
    let base = ["run", FOREST, "--inputs", FOREST_INPUTS];
    let want = good(&base);
    for flags in [&["--opt-level", "0"][..], &["--backend", "reference"], &["--threads", "1"]] {
        assert_eq!(good(&[&base[..], flags].concat()), want, "{flags:?}");
    }
}
