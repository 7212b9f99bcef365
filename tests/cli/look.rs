//! `inspect`, `optimize`, `compare`, `ops`, `doctor` and `completions`.

use kiln::{Tensor, npy};

use super::*;

#[test]
fn inspect_shows_a_model() {
    let out = good(&["inspect", FOREST]);
    let want = "\
file        models/forest_iris/model.onnx
producer    skl2onnx 1.20.0
version     IR 8, ai.onnx 18, ai.onnx.ml 1
parameters  0 in 0 initializers
nodes       1
inputs
  X  f32[X_0,4]
outputs
  label          i64[X_0]
  probabilities  f32[X_0,3]
operators
  ai.onnx.ml::TreeEnsembleClassifier  1
";
    assert_eq!(out, want);
}

#[test]
fn inspect_lists_all_that_is_missing() {
    let folder = Folder::new();
    let model = folder.write("s.onnx", &strange());
    let ended = kiln(&["inspect", &model, "--json"]);
    let document = json(&ended.out);
    assert_eq!((ended.code, &document["schema"]), (3, &json("\"kiln-inspect/1\"")));
    assert_eq!(document["unsupported"], json(r#"["ai.onnx::Frob", "ai.onnx::Nicate"]"#));
    assert_eq!(document["ops"], json(r#"{"ai.onnx::Frob": 1, "ai.onnx::Nicate": 1}"#));
    assert_eq!(document["inputs"], json(r#"[{"name": "x", "type": "f32[2]"}]"#));
    let ended = kiln(&["inspect", &model, "--ops"]);
    assert_eq!(ended.out, "ai.onnx::Frob    1  missing\nai.onnx::Nicate  1  missing\n");
}

#[test]
fn inspect_prints_and_draws_the_graph() {
    let folder = Folder::new();
    let model = folder.write("m.onnx", &relu());
    assert_eq!(good(&["inspect", &model, "--ir"]), "x: f32[x_0]\ny = Relu(x)\nreturn y\n");
    let dot = folder.path("m.dot");
    good(&["inspect", &model, "--graph", &dot]);
    let drawn = String::from_utf8(read(&dot)).expect("text");
    assert!(drawn.starts_with("digraph") && drawn.matches("->").count() == 2, "{drawn}");
    assert_eq!(kiln(&["inspect", &model, "--graph", &folder.path("m.svg")]).code, 2);
    let ended = kiln_fed(&["inspect", "-"], &relu());
    assert!(ended.code == 0 && ended.out.contains("ai.onnx::Relu  1"), "{ended:?}");
}

/// One tree of two leaves that votes for the first of two targets only.
fn lost_target() -> Vec<u8> {
    use proto::{floats, int, ints, texts};
    let attrs = [
        ints("nodes_treeids", &[0, 0, 0]),
        ints("nodes_nodeids", &[0, 1, 2]),
        ints("nodes_featureids", &[0, 0, 0]),
        floats("nodes_values", &[1.0, 0.0, 0.0]),
        texts("nodes_modes", &["BRANCH_LEQ", "LEAF", "LEAF"]),
        ints("nodes_truenodeids", &[1, 0, 0]),
        ints("nodes_falsenodeids", &[2, 0, 0]),
        ints("target_treeids", &[0, 0]),
        ints("target_nodeids", &[1, 2]),
        ints("target_ids", &[0, 0]),
        floats("target_weights", &[0.25, 0.5]),
        int("n_targets", 2),
    ];
    let graph = Graph::new().ml("TreeEnsembleRegressor", "x", "y", &attrs);
    graph.input("x", F32, &[-1, 1]).output("y", F32).model()
}

#[test]
fn inspect_warns_of_wrong_exports() {
    let folder = Folder::new();
    let model = folder.write("t.onnx", &lost_target());
    let want = "\
warning: lost_targets: node #0 `y` (ai.onnx.ml.TreeEnsembleRegressor): \
all trees vote for target 0 of 2; the others are constant
  help: train and export one model per target
";
    assert_eq!(good(&["inspect", &model, "--lint"]), want);
    let document = json(&good(&["inspect", &model, "--json"]));
    assert_eq!(document["lints"][0]["lint"], "lost_targets");
    let node = json(r#"{"index": 0, "name": "y", "op": "ai.onnx.ml.TreeEnsembleRegressor"}"#);
    assert_eq!(document["lints"][0]["node"], node);
    assert_eq!(good(&["inspect", FOREST, "--lint"]), "");
    assert_eq!(json(&good(&["inspect", FOREST, "--json"]))["lints"], json("[]"));
    assert_eq!(kiln(&["inspect", &model, "--lint", "--ops"]).code, 2);
}

#[test]
fn mixed_floats_are_read_as_doubles_with_a_warning() {
    const F64: u64 = 11;
    let folder = Folder::new();
    let graph = Graph::new().node("Neg", "x", "t", &[]).node("Mul", "t w", "y", &[]);
    let graph = graph.input("x", F32, &[2]).input("w", F64, &[2]).output("y", F64);
    let model = folder.write("m.onnx", &graph.model());
    let want = "\
warning: mixed_floats: node #1 `y` (Mul): input 0 is f32 and input 1 is f64, but they must have \
one type: the f32 inputs are cast to f64
  help: cast in the model where types differ: other runtimes refuse it
";
    assert_eq!(good(&["inspect", &model, "--lint"]), want);
    let shown = good(&["inspect", &model]);
    assert!(shown.contains("1 node mixes f32 and f64"), "{shown}");
    assert!(good(&["inspect", &model, "--ir"]).contains("Cast(t)"));
}

#[test]
fn optimize_writes_an_equal_model_and_a_report() {
    let folder = Folder::new();
    let [out, report, ir] = ["o.onnx", "r.json", "o.txt"].map(|n| folder.path(n));
    let flags = ["--report", &report, "--ir", &ir, "--dim", "X_0=30"];
    let text = good(&[&["optimize", FOREST, "-o", &out][..], &flags].concat());
    assert!(text.starts_with("nodes 1 → 1\n"), "{text}");
    assert_eq!(folder.names(), ["o.onnx", "o.txt", "r.json"]);
    assert!(read(&ir).starts_with(b"X: f32[30,4]\n"));
    let report = json(&String::from_utf8(read(&report)).expect("text"));
    assert_eq!(report["schema"], "kiln-optimize/1");
    assert_eq!((&report["nodes_before"], &report["nodes_after"]), (&json("1"), &json("1")));
    let passes = report["passes"].as_array().expect("a list");
    for pass in passes {
        assert!(pass["name"].is_string() && pass["fired"].is_u64() && pass["micros"].is_u64());
        assert!(pass["declined"].is_array(), "{pass}");
    }
    assert!(!passes.is_empty() && report["patches"].is_array());
    good(&["compare", FOREST, &out, "--inputs", FOREST_INPUTS, "--rtol", "0", "--atol", "0"]);
    // The length is fixed now.
    let inspected = good(&["inspect", &out]);
    assert!(inspected.contains("X  f32[30,4]"), "{inspected}");
}

#[test]
fn explain_says_what_fired_and_why_not() {
    let folder = Folder::new();
    let graph = Graph::new().node("Relu", "x", "r", &[]).node("Clip", "r low", "y", &[]);
    let graph = graph.input("x", F32, &[2]).input("low", F32, &[]).output("y", F32);
    let model = folder.write("m.onnx", &graph.model());
    let text = good(&["explain", &model]);
    assert!(text.starts_with("nodes 2 → 1, FLOPs 4 → 4"), "{text}");
    assert!(text.contains("clip_chain left alone:\n  1 × a bound is not constant\n"), "{text}");
    let want = "clip_chain fired 0 times, and left alone:\n  y: a bound is not constant\n    \
                help: export Clip with constant bounds\n";
    assert_eq!(good(&["explain", &model, "--why", "clip_chain"]), want);
    let report = json(&good(&["explain", &model, "--json"]));
    assert_eq!(report["schema"], "kiln-optimize/1");
    assert_eq!(kiln(&["explain", &model, "--why", "no_pass"]).code, 2);
    let text = good(&["explain", &model, "--ablate", "--threads", "1"]);
    let rows: Vec<_> = text.lines().map(|l| l.split_whitespace().next()).collect();
    assert_eq!(rows, [Some("pass"), Some("elementwise")], "{text}");
    assert!(text.contains('%'), "{text}");
}

#[test]
fn optimize_draws_every_edit() {
    let folder = Folder::new();
    let (out, page) = (folder.path("o.onnx"), folder.path("r.html"));
    let graph = Graph::new().node("Relu", "x", "r", &[]).node("Relu", "r", "y", &[]);
    let twice = folder.write("n.onnx", &graph.input("x", F32, &[2]).output("y", F32).model());
    good(&["optimize", &twice, "-o", &out, "--report", &page]);
    let text = String::from_utf8(read(&page)).expect("text");
    assert!(text.starts_with("<!doctype html>") && text.ends_with("</html>\n"));
    assert_eq!(text.matches("<svg").count(), 2, "{text}");
    assert!(text.contains("<h2 id=\"clip_chain\">"), "{text}");
}

#[test]
fn optimize_check_proves_every_patch() {
    let folder = Folder::new();
    let graph = Graph::new().node("Relu", "x", "r", &[]).node("Relu", "r", "y", &[]);
    let graph = graph.input("x", F32, &[2]).output("y", F32);
    let model = folder.write("m.onnx", &graph.model());
    let (out, report) = (folder.path("o.onnx"), folder.path("r.json"));
    let done = kiln(&["optimize", &model, "-o", &out, "--check", "--report", &report]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.err.contains("1 of 1 patches proved on"), "{}", done.err);
    let report = json(&String::from_utf8(read(&report)).expect("text"));
    let patch = &report["patches"][0];
    assert_eq!((&patch["rule"], &patch["checked"]), (&json("\"clip_chain\""), &json("true")));
    assert_eq!(patch["dropped"], json("null"));
    assert_eq!(folder.names(), ["m.onnx", "o.onnx", "r.json"]);
}

#[test]
fn optimize_check_tells_of_an_edit_that_only_the_whole_model_shows() {
    let folder = Folder::new();
    let graph = Graph::new().node("Mul", "x tenth", "a", &[]).node("Mul", "a third", "y", &[]);
    let scalar = |x: f32| proto::f32s(&[], &[x]);
    let graph = graph.init("tenth", scalar(0.1)).init("third", scalar(1.0 / 3.0));
    let model = folder.write("m.onnx", &graph.input("x", F32, &[64]).output("y", F32).model());
    let (out, report) = (folder.path("o.onnx"), folder.path("r.json"));
    let flags = ["--check", "--rtol", "0", "--atol", "0", "--report", &report];
    let done = kiln(&[&["optimize", &model, "-o", &out], &flags[..]].concat());
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.err.contains("dropped: scalar_chain at `y`: the whole model is off: "));
    let shown = folder.path("o.fault-0-scalar_chain");
    for side in ["before.onnx", "after.onnx"] {
        assert!(std::path::Path::new(&shown).join(side).exists(), "{side}");
    }
    let report = json(&String::from_utf8(read(&report)).expect("text"));
    let patches = report["patches"].as_array().expect("a list");
    let dropped: Vec<_> = patches.iter().filter(|p| !p["dropped"].is_null()).collect();
    assert_eq!(dropped.len(), 1);
    assert_eq!(dropped[0]["rule"], json("\"scalar_chain\""));
}

#[test]
fn optimize_leaves_its_input_alone() {
    let folder = Folder::new();
    let model = folder.write("m.onnx", &relu());
    let link = folder.path("link.onnx");
    std::os::unix::fs::symlink(&model, &link).expect("the folder is writable");
    for flags in [["-o", &model], ["-o", &link]] {
        let ended = kiln(&[&["optimize", &model], &flags[..]].concat());
        assert_eq!(ended.code, 2, "{}", ended.err);
        assert!(ended.err.contains("is not overwritten"), "{}", ended.err);
    }
    for name in ["o.kiln", "o.txt"] {
        assert_eq!(kiln(&["optimize", &model, "-o", &folder.path(name)]).code, 2);
    }
    let table = folder.path("r.csv");
    let out = folder.path("o.onnx");
    assert_eq!(kiln(&["optimize", &model, "-o", &out, "--report", &table]).code, 2);
    assert_eq!(kiln(&["optimize", &model, "-o", &out, "--dim", "N=2"]).code, 2);
    assert_eq!(read(&model), relu());
    assert_eq!(folder.names(), ["link.onnx", "m.onnx"]);
}

#[test]
fn compare_passes_equals_and_fails_others() {
    let args = ["compare", FOREST, FOREST_EXPECTED, "--inputs", FOREST_INPUTS];
    let out = good(&args);
    assert!(out.starts_with("output  ") && out.matches("same").count() == 2, "{out}");
    let ended = kiln(&[&args[..], &["--rtol", "0", "--atol", "0", "--json"]].concat());
    let document = json(&ended.out);
    assert_eq!((ended.code, &document["same"]), (1, &json("false")), "{}", ended.err);
    assert_eq!(document["outputs"][0]["differs"], json("null"));
    assert!(document["outputs"][1]["max_abs"].as_f64().is_some_and(|d| d > 0.0 && d < 1e-5));
    good(&["compare", &format!("{FOREST}@0"), &format!("{FOREST}@reference"), "--random", "3"]);
    assert_eq!(kiln(&["compare", FOREST, &format!("{FOREST}@4")]).code, 2);
}

#[test]
fn compare_reads_folders_and_arrays() {
    let folder = Folder::new();
    let model = folder.write("m.onnx", &relu());
    let array = |name: &str, v: Vec<f32>| {
        folder.write(name, &npy::write(&Tensor::vector(v)).expect("floats"))
    };
    let x = format!("x={}", array("x.npy", vec![-1.0, 2.0]));
    let out = folder.path("out");
    good(&["run", &model, "-i", &x, "--output-dir", &out]);
    good(&["compare", &model, &out, "-i", &x]);
    good(&["compare", &out, &model, "-i", &x]);
    good(&["compare", &out, &out]);
    good(&["compare", &out, &array("same.npy", vec![0.0, 2.0])]);
    let other = array("other.npy", vec![0.0, 3.0]);
    let ended = kiln(&["compare", &out, &other]);
    let words = "DIFFERS: 1 of 2, first element 1: 2, not 3";
    assert!(ended.code == 1 && ended.out.contains(words), "{ended:?}");
    assert_eq!(kiln(&["compare", &out, &array("long.npy", vec![0.0; 3])]).code, 1);
    assert_eq!(kiln(&["compare", &out, "models"]).code, 4);
}

#[test]
fn ops_lists_every_operator_with_its_versions() {
    let document = json(&good(&["ops", "--json"]));
    let ops = document["ops"].as_array().expect("a list");
    let find = |op: &str| ops.iter().find(|o| o["op"] == op).expect("it is there");
    assert_eq!(document["schema"], "kiln-ops/1");
    assert_eq!(find("TreeEnsembleClassifier")["domain"], "ai.onnx.ml");
    assert_eq!(find("Relu")["domain"], "ai.onnx");
    assert!(find("Relu")["since"].as_array().is_some_and(|v| !v.is_empty()));
    assert_eq!(good(&["ops"]).lines().count(), ops.len());
}

#[test]
fn doctor_and_completions_answer() {
    let document = json(&good(&["doctor", "--json"]));
    assert_eq!(document["schema"], "kiln-doctor/1");
    assert_eq!(document["version"], env!("CARGO_PKG_VERSION"));
    assert!(document["cores"].as_str().is_some_and(|n| n.parse::<u32>().is_ok_and(|n| n > 0)));
    assert!(good(&["doctor"]).contains("\ncuda "));
    for shell in ["bash", "zsh", "fish"] {
        assert!(good(&["completions", shell]).contains("optimize"));
    }
}
