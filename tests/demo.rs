//! The demo to its end, as a user runs it, read as a program reads it.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use serde_json::Value;

fn amount(value: &Value) -> u128 {
    value.as_str().unwrap().parse().unwrap()
}

#[test]
fn a_small_demo_learns_refuses_its_adversaries_and_pays_to_the_unit() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let output = Command::new(env!("CARGO_BIN_EXE_convoke"))
        .args([
            "demo", "--rounds", "4", "--seed", "7", "--format", "json", "--out",
        ])
        .arg(&out)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    let summary: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();

    assert!(
        summary["accuracy"].as_f64().unwrap() > 0.75,
        "{}",
        summary["accuracy"]
    );
    let rounds = summary["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 4);
    for round in rounds {
        let personas = |list: &str| -> Vec<&str> {
            let entries = round[list].as_array().unwrap();
            entries
                .iter()
                .map(|entry| entry["persona"].as_str().unwrap())
                .collect()
        };
        let mut refused = personas("refused");
        refused.sort_unstable();
        assert_eq!(refused, ["noise", "sign_flipper"], "{round}");
        assert_eq!(personas("kept"), ["honest"; 4], "{round}");
        assert!(
            round["refused"]
                .as_array()
                .unwrap()
                .iter()
                .all(|r| r["reason"].is_string())
        );
    }

    let sum = ["paid_out", "refunded", "vesting"]
        .iter()
        .map(|part| amount(&summary[part]))
        .sum();
    assert_eq!(amount(&summary["escrow_in"]), sum);
    let paid = summary["paid"].as_array().unwrap();
    assert_eq!(
        paid.iter()
            .map(|entry| amount(&entry["amount"]))
            .sum::<u128>(),
        amount(&summary["paid_out"])
    );
    let unpaid = paid
        .iter()
        .filter(|entry| amount(&entry["amount"]) == 0)
        .count();
    assert_eq!(unpaid, 2, "only the adversaries earn nothing: {paid:?}");

    for file in [
        "model.safetensors",
        "MODEL_CARD.md",
        "report.html",
        "summary.json",
    ] {
        assert!(out.join(file).metadata().unwrap().len() > 0, "{file}");
    }
    let report = std::fs::read_to_string(out.join("report.html")).unwrap();
    // Whatever the embedded plotting library could do, the page forbids itself the network.
    assert!(report.contains("http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'"));
    assert!(!report.contains("<script src=") && !report.contains("<link "));
}
