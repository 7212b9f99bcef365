//! `quantize`.

use kiln::{Tensor, npy};

use super::*;

/// `y = Relu(x * w + b)` for rows of 8.
fn layer() -> Vec<u8> {
    let w: Vec<f32> = (0..64).map(|i| ((i * 7) % 13) as f32 / 6.0 - 1.0).collect();
    let graph = Graph::new()
        .node("Gemm", "x w b", "g", &[])
        .node("Relu", "g", "y", &[])
        .init("w", proto::f32s(&[8, 8], &w))
        .init("b", proto::f32s(&[8], &[0.5; 8]));
    graph.input("x", F32, &[-1, 8]).output("y", F32).model()
}

/// 16 rows between -1 and 1.
fn rows() -> Vec<u8> {
    let data = (0..128).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
    npy::write(&Tensor::from_vec(&[16, 8], data).expect("16 rows")).expect("numbers")
}

#[test]
fn layers_become_integers() {
    let folder = Folder::new();
    let (model, calib) = (folder.write("m.onnx", &layer()), folder.write("x.npy", &rows()));
    let [out, report] = ["q.onnx", "r.json"].map(|n| folder.path(n));
    for method in ["minmax", "entropy", "percentile", "mse"] {
        let flags = ["--calib", &calib, "--method", method, "--report", &report];
        let text = good(&[&["quantize", &model, "-o", &out][..], &flags].concat());
        assert!(text.starts_with("layers  1 of 1 in int8\nbytes   "), "{text}");
        let report = json(&String::from_utf8(read(&report)).expect("text"));
        assert_eq!(
            (&report["schema"], &report["samples"]),
            (&json("\"kiln-quantize/1\""), &json("16"))
        );
        assert_eq!(report["layers"][0]["quantized"], json("true"));
        assert!(report["loss"].as_f64().is_some_and(|l| l.abs() < 0.001), "{report}");
        let ops = good(&["inspect", &out, "--ops"]);
        assert!(ops.contains("ai.onnx::QuantizeLinear    1"), "{ops}");
        assert!(ops.contains("ai.onnx::DequantizeLinear  3"), "{ops}");
        // 8 products of an error of 1/255 of the range by weights up to 1, and the other way.
        let input = format!("x={calib}");
        let same = ["--input", &input, "--rtol", "0", "--atol", "0.1"];
        good(&[&["compare", &model, &out][..], &same].concat());
    }
}

#[test]
fn forests_are_quantized_without_samples_to_the_bit() {
    let folder = Folder::new();
    let out = folder.path("q.onnx");
    let text = good(&["quantize", FOREST, "-o", &out]);
    assert!(text.starts_with("layers  1 of 1 in int8\n"), "{text}");
    good(&["compare", FOREST, &out, "--inputs", FOREST_INPUTS, "--rtol", "0", "--atol", "0"]);
}

#[test]
fn weights_become_half_floats_without_samples() {
    let folder = Folder::new();
    let model = folder.write("m.onnx", &layer());
    for dtype in ["bf16", "f16"] {
        let out = folder.path(&format!("{dtype}.onnx"));
        let text = good(&["quantize", &model, "-o", &out, "--dtype", dtype]);
        assert!(text.starts_with(&format!("layers  1 of 1 in {dtype}\n")), "{text}");
        assert!(good(&["inspect", &out, "--ops"]).contains("ai.onnx::Cast  1"));
        good(&["compare", &model, &out, "--rtol", "0.01", "--atol", "0.01"]);
    }
}

#[test]
fn weights_alone_become_integers_without_samples() {
    let folder = Folder::new();
    let (model, out) = (folder.write("m.onnx", &layer()), folder.path("q.onnx"));
    let text = good(&["quantize", &model, "-o", &out, "--weights-only"]);
    assert!(text.starts_with("layers  1 of 1 in int8\n"), "{text}");
    let ops = good(&["inspect", &out, "--ops"]);
    assert!(ops.contains("ai.onnx::DequantizeLinear  1"), "{ops}");
    assert!(!ops.contains("ai.onnx::QuantizeLinear"), "{ops}");
    good(&["compare", &model, &out, "--rtol", "0.01", "--atol", "0.05"]);
    let ended = kiln(&["quantize", &model, "-o", &out, "--weights-only", "--dtype", "f16"]);
    assert!(ended.code == 2 && ended.err.contains("--weights-only"), "{}", ended.err);
}

#[test]
fn a_loss_is_bounded_by_putting_layers_back() {
    let folder = Folder::new();
    let (model, calib) = (folder.write("m.onnx", &layer()), folder.write("x.npy", &rows()));
    let out = folder.path("q.onnx");
    let flags = ["--calib", &calib, "--max-drop", "0", "--metric", "mse"];
    let text = good(&[&["quantize", &model, "-o", &out][..], &flags].concat());
    assert!(text.contains("left    Gemm `g`: the outputs would lose too much"), "{text}");
    assert!(text.contains("loss    0.000000 (mse)"), "{text}");
}

#[test]
fn what_is_missing_is_named() {
    let folder = Folder::new();
    let model = folder.write("m.onnx", &layer());
    let out = folder.path("q.onnx");
    let run = |flags: &[&str]| {
        let ended = kiln(&[&["quantize", &model, "-o", &out][..], flags].concat());
        (ended.code, ended.err)
    };
    let (code, err) = run(&[]);
    assert!(code == 2 && err.contains("--calib"), "{err}");
    let (code, err) = run(&["--dtype", "f16", "--exclude", "nobody"]);
    assert!(code == 4 && err.contains("no node `nobody`"), "{err}");
    let (code, err) = run(&["--dtype", "f16", "--labels", "l.npy"]);
    assert!(code == 2 && err.contains("--metric top1"), "{err}");
    assert_eq!(run(&["--dtype", "int4"]).0, 2);
    assert_eq!(run(&["--max-drop", "-1"]).0, 2);
    let empty = folder.path("empty");
    fs::create_dir(&empty).expect("the folder is writable");
    let (code, err) = run(&["--calib", &empty]);
    assert!(code == 2 && err.contains("input_<j>.pb"), "{err}");
    assert_eq!(kiln(&["quantize", &model, "-o", &model, "--dtype", "f16"]).code, 2);
}
