//! `kiln run --jobs`: no job ends the process.

use kiln::{Tensor, pb};

use super::*;

#[test]
fn every_job_is_answered_in_order() {
    let folder = Folder::new();
    let model = folder.write("m.onnx", &relu());
    let strange = folder.write("s.onnx", &strange());
    let bad = folder.write("b.onnx", b"no model");
    let x = pb::write(&Tensor::vector(vec![-3.0f32]).into(), "x").expect("a tensor");
    let x = folder.write("x.pb", &x);
    let out = folder.path("out");
    let job = |id: &str, model: &str, inputs: &str| {
        format!(r#"{{"id": {id}, "model": "{model}", "inputs": {inputs}, "output_dir": "{out}"}}"#)
    };
    let given = format!(r#"{{"x": "{x}"}}"#);
    let twice = format!(r#"{{"x": "{x}", "z": "{x}"}}"#);
    let lines = [
        job("1", &model, &given),
        "no json".into(),
        job("2", &strange, &given),
        job("3", &bad, &given),
        job("4", "nowhere.onnx", &given),
        job("5", &model, "{}"),
        job("6", &model, &twice),
        job("7", &model, &format!(r#"{{"x": "{model}"}}"#)),
        "[]".into(),
        String::new(),
        job(r#""last""#, &model, &given),
    ];
    let ended = kiln_fed(&["run", "--jobs", "-", "--threads", "1"], lines.join("\n").as_bytes());
    assert_eq!(ended.code, 0, "{}", ended.err);
    let answers: Vec<_> = ended.out.lines().map(json).collect();
    let text = |i: usize| {
        let a = &answers[i];
        format!("{} {} {}", a["id"], a["status"].as_str().unwrap_or(""), a["reason"])
    };
    let wanted = [
        ("1 ok", "null"),
        ("null error", "no JSON"),
        ("2 unsupported", "ai.onnx::Frob, ai.onnx::Nicate"),
        ("3 error", "not an ONNX model"),
        ("4 error", "nowhere.onnx: No such file"),
        ("5 error", "input `x` is not given"),
        ("6 error", "no input `z`"),
        ("7 error", "m.onnx: "),
        ("null error", "lacks `model`"),
        ("\"last\" ok", "null"),
    ];
    assert_eq!(answers.len(), wanted.len(), "{}", ended.out);
    for (i, (start, part)) in wanted.iter().enumerate() {
        let got = text(i);
        assert!(got.starts_with(start) && got.contains(part), "{got}");
    }
    assert_eq!(answers[2]["unsupported"], json(r#"["ai.onnx::Frob", "ai.onnx::Nicate"]"#));
    assert!(answers[0]["load_ms"].is_f64() && answers[0]["run_ms"].is_f64());
    assert!(!read(&folder.path("out/output_0.pb")).is_empty());
}

#[test]
fn jobs_may_come_from_a_file() {
    let folder = Folder::new();
    let jobs = folder.write("jobs", br#"{"id": 1, "model": "nowhere"}"#);
    let ended = kiln(&["run", "--jobs", &jobs]);
    assert_eq!((ended.code, ended.out.lines().count()), (0, 1));
    assert_eq!(kiln(&["run", "--jobs", &folder.path("none")]).code, 7);
}
