//! `kiln bench`: the document that outside tools read.

use kiln::npy;

use super::*;

#[test]
fn the_document_has_every_field() {
    let folder = Folder::new();
    let (out, saved) = (folder.path("out.json"), folder.path("y.npy"));
    let input = format!("X={FOREST_INPUTS}:X");
    let flags = ["--batch", "30", "--threads", "1", "--warmup", "1", "--iters", "7"];
    let files = ["--input", &input, "--json", &out, "--save-output", &saved];
    let summary = good(&[&["bench", FOREST][..], &flags, &files].concat());
    assert!(summary.contains("\nruns         7\n") && summary.contains("rows/s"), "{summary}");
    let document = json(&String::from_utf8(read(&out)).expect("text"));
    for (key, want) in [
        ("schema", "\"kiln-bench/1\""),
        ("runtime", "\"kiln\""),
        ("model", "\"models/forest_iris/model.onnx\""),
        ("batch", "30"),
        ("threads", "1"),
        ("backend", "\"cpu\""),
        ("main_output", "\"probabilities\""),
        ("error", "null"),
        ("unsupported", "[]"),
    ] {
        assert_eq!(document[key], json(want), "{key}");
    }
    let times = document["latency_ns"].as_array().expect("a list");
    assert!(times.len() == 7 && times.iter().all(|t| t.as_u64().is_some_and(|t| t > 0)));
    for key in ["load_ms", "first_ms", "cpu_ms", "p50_ns", "p99_ns", "min_ns", "rows_per_s"] {
        assert!(document[key].as_f64().is_some_and(|x| x >= 0.0), "{key}: {}", document[key]);
    }
    if cfg!(target_os = "linux") {
        let mb = |key: &str| document[key].as_f64().expect(key);
        assert!(mb("rss_base_mb") > 0.0 && mb("peak_rss_mb") >= mb("rss_load_mb"));
    }
    let saved = npy::read(&read(&saved).into()).expect("an array");
    assert_eq!(saved.shape(), [30, 3]);
}

#[test]
fn failures_are_in_the_document_too() {
    let folder = Folder::new();
    let model = folder.write("s.onnx", &strange());
    let ended = kiln(&["bench", &model, "--json", "-"]);
    let document = json(&ended.out);
    assert_eq!(ended.code, 3);
    assert!(document["error"].as_str().is_some_and(|e| e.contains("kiln lacks 2")));
    assert_eq!(document["unsupported"], json(r#"["ai.onnx::Frob", "ai.onnx::Nicate"]"#));
    assert_eq!(document["latency_ns"], json("[]"));
}

#[test]
fn a_batch_sizes_the_inputs_that_are_made_up() {
    let ended = kiln(&["bench", FOREST, "--batch", "5", "--iters", "1", "--json", "-"]);
    assert!(ended.err.contains("input `X` is made up: f32[5,4]"), "{}", ended.err);
    assert_eq!(json(&ended.out)["batch"], 5);
}
