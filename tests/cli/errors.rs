//! Bad uses: the exit code, and a text that says what to do.

use std::process::{Command, Stdio};

use kiln::{Tensor, npy};

use super::*;

#[test]
fn each_class_has_its_code_and_its_words() {
    let folder = Folder::new();
    let model = folder.write("m.onnx", &relu());
    let strange = folder.write("s.onnx", &strange());
    let long = folder.write("x.npy", &npy::write(&Tensor::vector(vec![0i64])).expect("ints"));
    let wrong_type = format!("x={long}");
    let cases: &[(i32, &[&str], &str)] = &[
        (2, &[], "Usage: kiln"),
        (2, &["rum"], "unrecognized subcommand 'rum'"),
        (2, &["run"], "required"),
        (2, &["run", &model, "--opt-level", "4"], "4 is not in 0..=3"),
        (2, &["run", &model, "--skip", "nothing"], "the passes are "),
        (2, &["run", &model, "--limit", "bytes=1"], "there is no limit `bytes`: model-bytes"),
        (2, &["run", &model, "--input", "x"], "expected NAME=VALUE"),
        (2, &["run", &model, "--input", "z=q.pb"], "its inputs are `x` f32[x_0]"),
        (2, &["run", &model, "--output", "z=q.npy"], "its outputs are y"),
        (2, &["run", &model, "--dim", "batch=2"], "the symbols are x_0"),
        (2, &["run", &model, "--jobs", "-"], "cannot be used with"),
        (3, &["run", &strange], "ai.onnx::Frob, ai.onnx::Nicate"),
        (3, &["inspect", &strange], "kiln lacks 2"),
        (3, &["optimize", &strange, "-o", "x.onnx"], "kiln lacks 2"),
        (4, &["run", "Cargo.toml"], "not an ONNX model"),
        (4, &["run", &model, "--input", &wrong_type], "expected f32[x_0], got i64[1]"),
        (5, &["run", &model, "--limit", "model-bytes=9"], "--limit model-bytes=N"),
        (5, &["run", &model, "--dim", "x_0=64G"], "limit"),
        (6, &["run", &model, "--backend", "cuda"], "--backend cpu"),
        (7, &["run", "nowhere.onnx"], "nowhere.onnx: No such file"),
        (7, &["run", &model, "--input", "x=nowhere.pb"], "nowhere.pb: No such file"),
        (7, &["run", &model, "--output", "y=/nowhere/y.npy"], "/nowhere/y.npy"),
    ];
    for (code, args, words) in cases {
        let ended = kiln(args);
        assert_eq!(ended.code, *code, "{args:?}: {}", ended.err);
        assert!(ended.err.contains(words), "{args:?}: {}", ended.err);
        assert!(!ended.err.contains("panicked"), "{args:?}: {}", ended.err);
    }
}

#[test]
fn an_error_has_facts_and_a_remedy() {
    let folder = Folder::new();
    let graph = Graph::new().node("Add", "x z", "y", &[]);
    let graph = graph.input("x", F32, &[2]).input("z", proto::I64, &[2]).output("y", F32);
    let model = folder.write("m.onnx", &graph.model());
    let ended = kiln(&["run", &model]);
    let lines: Vec<_> = ended.err.lines().collect();
    assert_eq!(ended.code, 4);
    assert!(lines[0].starts_with("error: "), "{}", ended.err);
    assert_eq!(lines[1], format!("  model   {model}"));
    assert!(lines[2].starts_with("  node    #0 \"") && lines[2].ends_with(" Add"), "{}", lines[2]);
    assert_eq!(lines[3], "  inputs  x f32[2], z i64[2]");
    assert!(!ended.err.contains('\x1b'), "no colour where there is no terminal");
}

#[test]
fn nobody_listening_is_no_error() {
    for args in [&["ops"][..], &["run", FOREST], &["--help"], &["inspect", FOREST, "--json"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = Command::new(env!("CARGO_BIN_EXE_kiln"))
            .args(args)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null())
            .stdout(writer)
            .output()
            .expect("the command line was built");
        let talk = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {talk}");
        assert!(!talk.contains("error"), "{args:?}: {talk}");
    }
}

#[test]
fn help_fits_a_screen_and_shows_examples() {
    let top = good(&["--help"]);
    assert!(top.contains("Exit codes:"), "{top}");
    let verbs = "run inspect optimize explain bench compare ops doctor completions".split(' ');
    for verb in verbs {
        assert!(top.contains(&format!("\n  {verb} ")), "{verb}: {top}");
        let help = good(&[verb, "-h"]);
        let lines = help.lines().count();
        assert!(lines <= 40 && help.lines().all(|l| l.chars().count() <= 100), "{lines}: {help}");
        assert!(help.contains("Example"), "{help}");
    }
}
