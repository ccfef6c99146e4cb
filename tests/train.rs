//! `convoke train` and `convoke evaluate` as a newcomer uses them: real processes, no chain.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const IMAGES: &str = "name = \"images\"\nseed = 3\n[model]\nkind = \"mlp\"\n\
                      [training]\nsteps_max = 60\nclient_optimizer = \"adamw\"\nclient_lr = 0.002\n\
                      schedule = \"cosine\"\nwarmup_steps = 5\ngradient_norm_max = 1.0\n";

struct Place(tempfile::TempDir);

impl Place {
    fn with(task: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::write(place.path("task.toml"), task).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, command: &str, data: &Path, more: &[&str]) -> Command {
        let mut convoke = Command::new(env!("CARGO_BIN_EXE_convoke"));
        convoke.args([command, "--format", "json", "--device", "cpu", "--task"]);
        convoke.arg(self.path("task.toml")).arg("--data").arg(data);
        convoke.args(more).current_dir(self.0.path());
        convoke
    }

    fn run(&self, command: &str, data: &Path, more: &[&str]) -> Output {
        self.command(command, data, more).output().unwrap()
    }
}

fn fashion() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/fashion-mnist")
}

/// The last line of standard output, as JSON.
fn result(output: &Output) -> Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

fn complaint(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn steps(path: &Path) -> Vec<u64> {
    let text = fs::read_to_string(path).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let steps = lines.filter(|line| line.get("loss").is_some());
    steps.map(|line| line["step"].as_u64().unwrap()).collect()
}

#[test]
fn a_training_that_was_killed_goes_on_to_the_same_model() {
    let place = Place::with(IMAGES);
    let whole = result(&place.run("train", &fashion(), &["--out", "whole"]));
    let loss = |measured: &Value| measured["held_out_loss"].as_f64().unwrap();
    assert!(
        loss(&whole["after"]) < 0.6 * loss(&whole["before"]),
        "{whole:#}"
    );
    assert_eq!(whole["steps"], 60);

    let cut = ["--out", "cut", "--snapshot-every", "0"];
    let mut command = place.command("train", &fashion(), &cut);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let kept = |line: &str| line.contains("\"snapshot\"");
    let kept = lines.map(Result::unwrap).filter(|line| kept(line));
    assert_eq!(kept.take(10).count(), 10);
    child.kill().unwrap();
    child.wait().unwrap();
    let metrics = place.path("cut/metrics.jsonl");
    assert!(
        !place.path("cut/result.json").exists(),
        "it was too fast to be killed"
    );

    let again = complaint(&place.run("train", &fashion(), &cut));
    assert!(again.contains("--resume"), "{again}");
    let more = [&cut[..], &["--resume"]].concat();
    let resumed = result(&place.run("train", &fashion(), &more));
    assert_eq!(resumed["after"], whole["after"]);
    let model = |out: &str| fs::read(place.path(out).join("model.safetensors")).unwrap();
    assert!(model("cut") == model("whole"));
    assert_eq!(steps(&metrics), (1..=60).collect::<Vec<_>>());

    let checkpoint = place.path("cut/model.safetensors");
    let checkpoint = checkpoint.to_str().unwrap();
    let measured = result(&place.run("evaluate", &fashion(), &[checkpoint]));
    assert_eq!(measured, whole["after"]);
}

#[test]
fn rounds_follow_each_other_and_settings_can_be_changed() {
    let place = Place::with(IMAGES);
    let more = [
        "--rounds",
        "2",
        "--set",
        "training.steps_max=6",
        "--set",
        "model.hidden=16",
        "--measure-every",
        "3",
        "--patience",
        "1",
    ];
    let done = result(&place.run("train", &fashion(), &more));
    assert_eq!(done["rounds"], 2);
    assert!(done["steps"].as_u64().unwrap() <= 12);
    let unknown = place.run(
        "train",
        &fashion(),
        &["--set", "training.steps=6", "--out", "b"],
    );
    assert!(complaint(&unknown).contains("steps"));
}

/// Two kinds of users, each with its own half of the items.
fn interactions(path: &Path) {
    let mut lines = String::from("user_id:token\titem_id:token\ttimestamp:float\n");
    for user in 0..40 {
        for time in 0..8 {
            let item = (user * 5 + time * 3) % 20 * 2 + user % 2;
            lines += &format!("u{user}\t{item}\t{time}\n");
        }
    }
    fs::write(path, lines).unwrap();
}

#[test]
fn a_recommender_is_measured_by_its_ranking() {
    let task = "name = \"items\"\n[model]\nkind = \"recommender\"\nitems = 40\nwidth = 8\n\
                [training]\nlocal_epochs = 10\nclient_optimizer = \"adamw\"\nclient_lr = 0.02\n";
    let place = Place::with(task);
    fs::create_dir(place.path("mine")).unwrap();
    interactions(&place.path("mine/train.inter"));
    interactions(&place.path("mine/test.inter"));
    let done = result(&place.run("train", &place.path("mine"), &[]));
    let before = done["before"]["ndcg_at_10"].as_f64().unwrap();
    let after = done["after"]["ndcg_at_10"].as_f64().unwrap();
    assert!(after > before + 0.1, "{done:#}");
    assert!(done["after"]["hit_rate_at_10"].as_f64().unwrap() > 0.5);
    let file = fs::read(place.path("convoke-train/model.safetensors")).unwrap();
    let header = String::from_utf8_lossy(&file[..2000]);
    assert!(header.contains("item_tower") && !header.contains("users"));
}

#[test]
fn bad_data_is_named_by_file_line_and_field() {
    let task = "name = \"items\"\n[model]\nkind = \"recommender\"\nitems = 40\n";
    let place = Place::with(task);
    let none = complaint(&place.run("train", place.0.path(), &[]));
    assert!(
        none.contains("train.csv or train.tsv or train.inter"),
        "{none}"
    );
    let path = place.path("train.csv");
    fs::write(&path, "user_id,item_id\nann,3\nbob,40\n").unwrap();
    let bad = complaint(&place.run("train", place.0.path(), &[]));
    let expected = "train.csv:3: `item_id` is \"40\", not a number from 0 to 39";
    assert!(bad.contains(expected), "{bad}");
}

#[test]
fn a_language_model_learns_what_the_assistant_says() {
    let task = "name = \"chat\"\n[model]\nkind = \"transformer\"\nwidth = 32\nlayers = 1\nheads = 2\n\
                sequence_len = 48\n[training]\nlocal_epochs = 6\nbatch_size = 8\n\
                micro_batch_size = 4\nclient_optimizer = \"adamw\"\nclient_lr = 0.01\n";
    let place = Place::with(task);
    let line = |n: usize| {
        let turns = format!(
            r#"[{{"role": "user", "content": "{n}?"}}, {{"role": "assistant", "content": "pong"}}]"#
        );
        format!("{{\"system\": \"play\", \"conversations\": {turns}}}\n")
    };
    let lines = |range: std::ops::Range<usize>| range.map(line).collect::<String>();
    fs::write(place.path("train.jsonl"), lines(0..64)).unwrap();
    fs::write(place.path("test.jsonl"), lines(64..80)).unwrap();
    let done = result(&place.run("train", place.0.path(), &[]));
    let bits = |when: &str| done[when]["bits_per_byte"].as_f64().unwrap();
    // An untrained model is worse than nine bits for each of four bytes, an end of line and an end.
    assert!(bits("before") > 8.0, "{done:#}");
    assert!(bits("after") < 1.0, "{done:#}");
    assert_eq!(done["after"]["num_examples"], 16);

    let bad = line(3).replace("\"user\"", "\"bot\"");
    fs::write(place.path("train.jsonl"), line(1) + &bad).unwrap();
    let bad = complaint(&place.run("train", place.0.path(), &["--out", "b"]));
    let expected = "train.jsonl:2: `conversations[0].role` is \"bot\"";
    assert!(bad.contains(expected), "{bad}");
}

#[test]
fn a_classifier_of_text_is_measured_by_accuracy_and_f1() {
    let task = "name = \"mails\"\n[model]\nkind = \"bert\"\nlabels = [\"ham\", \"spam\"]\nclasses = 2\n\
                hidden_size = 32\nintermediate_size = 64\nnum_hidden_layers = 1\n\
                num_attention_heads = 2\nsequence_len = 24\n[training]\nlocal_epochs = 8\n\
                batch_size = 8\nclient_optimizer = \"adamw\"\nclient_lr = 0.005\n";
    let place = Place::with(task);
    let rows = |range: std::ops::Range<usize>| {
        let row = |n: usize| match n % 2 {
            0 => format!("ham,\"dear {n}, yours\"\n"),
            _ => format!("spam,win {n} now!\n"),
        };
        format!("label,text\n{}", range.map(row).collect::<String>())
    };
    fs::write(place.path("train.csv"), rows(0..64)).unwrap();
    fs::write(place.path("test.csv"), rows(64..96)).unwrap();
    let done = result(&place.run("train", place.0.path(), &[]));
    assert!(
        done["after"]["accuracy"].as_f64().unwrap() > 0.9,
        "{done:#}"
    );
    assert!(
        done["after"]["macro_f1"].as_f64().unwrap() > 0.9,
        "{done:#}"
    );
}
