//! Federations of language models, as their creators rehearse them: the examples' way, on small
//! weights that a script drew.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("models/tests/fixtures")
        .join(name)
}

fn write(folder: &Path, file: &str, text: &str) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join(file), text).unwrap();
}

fn amount(value: &Value) -> u128 {
    value.as_str().unwrap().parse().unwrap()
}

fn rehearse(folder: &Path, task: &str) -> Value {
    let file = folder.join("task.toml");
    fs::write(&file, task).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_convoke"))
        .args(["demo", "--format", "json", "--task"])
        .arg(&file)
        .arg("--data")
        .arg(folder.join("data"))
        .arg("--out")
        .arg(folder.join("out"))
        .env("CONVOKE_CACHE", folder.join("cache"))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    let summary: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    for round in summary["rounds"].as_array().unwrap() {
        assert_eq!(round["kept"].as_array().unwrap().len(), 2, "{round}");
    }
    let parts = ["paid_out", "refunded", "vesting"];
    let sum = parts.iter().map(|part| amount(&summary[part])).sum();
    assert_eq!(amount(&summary["escrow_in"]), sum);
    summary
}

const TRAINING: &str = "client_optimizer = \"adamw\"\nclient_lr = 0.02\nclient_lr_decay = 1.0\n\
                        batch_size = 4\nlogit_calibration = false\n";

#[test]
fn adapters_of_a_decoder_are_trained_together() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let verse = |from: usize| {
        let words = ["rose", "is", "a", "red", "red", "flower", "in", "june"];
        let lines = (from..from + 40).map(|line| {
            let word = |place: usize| words[(line + place) % words.len()];
            format!("{} {} {} {}\n", word(0), word(1), word(2), word(3))
        });
        lines.collect::<String>()
    };
    write(&data.join("trainer-1"), "train.txt", &verse(0));
    write(&data.join("trainer-2"), "train.txt", &verse(3));
    write(&data.join("validator-1"), "test.txt", &verse(1));
    write(&data.join("held-back"), "test.txt", &verse(2));
    let task = format!(
        "name = \"verses\"\nrounds = 2\nseed = 7\n[model]\nkind = \"llama\"\nsequence_len = 32\n\
         [base]\nsources = [{:?}]\n[adapter]\nrank = 4\ntargets = [\"q_proj\", \"v_proj\", \"down_proj\"]\n\
         [training]\nlocal_epochs = 3\n{TRAINING}",
        fixture("llama").to_str().unwrap()
    );
    let summary = rehearse(folder.path(), &task);
    let before = summary["before"]["bits_per_byte"].as_f64().unwrap();
    let after = summary["bits_per_byte"].as_f64().unwrap();
    assert!(after < 0.95 * before, "{before} {after}");
}

#[test]
fn adapters_of_an_encoder_learn_to_classify_together() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let texts = |from: usize| {
        let lines = (from..from + 48).map(|line| {
            let (text, label) = if line % 2 == 0 {
                ("win money now", 1)
            } else {
                ("see you at lunch", 0)
            };
            format!(
                "{{\"text\": \"{text} {}\", \"label\": {label}}}\n",
                line % 7
            )
        });
        lines.collect::<String>()
    };
    write(&data.join("trainer-1"), "train.jsonl", &texts(0));
    write(&data.join("trainer-2"), "train.jsonl", &texts(5));
    write(&data.join("validator-1"), "test.jsonl", &texts(2));
    write(&data.join("held-back"), "test.jsonl", &texts(3));
    let task = format!(
        "name = \"mails\"\nrounds = 2\nseed = 7\n[model]\nkind = \"bert\"\nclasses = 2\n\
         sequence_len = 16\n[base]\nsources = [{:?}]\n[adapter]\nrank = 4\n\
         [training]\nlocal_epochs = 3\n{TRAINING}",
        fixture("bert").to_str().unwrap()
    );
    let summary = rehearse(folder.path(), &task);
    let accuracy = summary["accuracy"].as_f64().unwrap();
    assert!(accuracy > 0.9, "{accuracy}");
}
