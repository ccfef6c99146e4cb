//! A client that nobody here wrote: `cast` reads a task, stakes, and claims.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use convoke_client::TaskTerms;
use convoke_protocol::ids::{Amount, Role, RoundId};
use support::devnet;
use support::stage::{COIN, FILE, STAKE, Stage, address, wallet};

/// cast as one wallet, against one endpoint.
struct Cast {
    rpc: String,
    number: u8,
}

impl Cast {
    fn run(&self, arguments: &[&str]) -> String {
        let output = Command::new(binary())
            .args(arguments)
            .args(["--rpc-url", &self.rpc])
            .env("NO_COLOR", "1")
            .output()
            .unwrap();
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(output.status.success(), "{arguments:?}: {out}{err}");
        out.trim().to_owned()
    }

    fn call(&self, to: &str, signature: &str, arguments: &[&str]) -> String {
        self.run(&[&["call", to, signature], arguments].concat())
    }

    fn send(&self, to: &str, signature: &str, arguments: &[&str]) {
        let key = format!("0x{}", format!("{:02x}", self.number).repeat(32));
        let head = ["send", "--private-key", &key, "--json", to, signature];
        let receipt = self.run(&[&head, arguments].concat());
        let receipt: serde_json::Value = serde_json::from_str(&receipt).unwrap();
        assert_eq!(receipt["status"], "0x1", "{receipt}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cast_reads_a_task_stakes_and_claims() {
    let (_devnet, endpoint) = devnet::start().await;
    let stage = Stage::set(&endpoint).await;
    let terms = TaskTerms {
        dispute_window_seconds: 0,
        ..stage.terms()
    };
    let task = stage.creator.create_task(&terms, FILE).await.unwrap();
    for (chain, role) in stage.operators().into_iter().skip(2) {
        chain.deposit_stake(task, role, STAKE).await.unwrap();
    }
    let aggregator = &stage.aggregator;
    aggregator
        .deposit_stake(task, Role::Aggregator, STAKE)
        .await
        .unwrap();

    // Alice has nothing but cast and the address book.
    let cast = Cast {
        rpc: endpoint.rpc.clone(),
        number: 3,
    };
    let (token, stakes, tasks) = (
        stage.book.token.to_string(),
        stage.book.stake_manager.to_string(),
        stage.book.task_manager.to_string(),
    );
    let id = task.0.to_string();
    assert_eq!(cast.call(&tasks, "taskCount()(uint64)", &[]), id);
    let terms = "stakeTerms(uint64,uint8)(bool,uint128,address)";
    let read = cast.call(&tasks, terms, &[&id, "0"]);
    let read: Vec<_> = read.lines().collect();
    assert_eq!(read[0], "true");
    assert!(read[1].starts_with(&STAKE.to_string()), "{read:?}");
    assert_eq!(
        read[2].to_lowercase(),
        address(&stage.aggregator).to_string()
    );

    let amount = STAKE.to_string();
    cast.send(&token, "approve(address,uint256)", &[&stakes, &amount]);
    cast.send(
        &stakes,
        "deposit(uint64,uint8,uint128)",
        &[&id, "0", &amount],
    );
    let alice = wallet(3).address();
    assert_eq!(
        stage.bob.stake_of(task, alice).await.unwrap(),
        Some((Role::Trainer, STAKE))
    );

    let round = RoundId(1);
    stage.settle(task, round, Amount(COIN), Amount(COIN)).await;
    let claims = stage.claims(task, round).await;
    let claim = claims.iter().find(|c| c.account == alice).unwrap();
    let proof: Vec<_> = claim.proof.iter().map(ToString::to_string).collect();
    let before = stage.tokens(alice).await;
    cast.send(
        &tasks,
        "claim(uint64,uint32,address,uint128,bytes32[])",
        &[
            &id,
            "1",
            &alice.to_string(),
            &claim.amount.to_string(),
            &format!("[{}]", proof.join(",")),
        ],
    );
    let paid = stage.tokens(alice).await.checked_sub(before);
    assert_eq!(paid, Some(Amount(COIN * 8 / 10)), "a fifth vests");
    assert!(stage.bob.claimed(task, round, alice).await.unwrap());
    let error = stage.bob.claim(task, claim).await.unwrap_err();
    assert_eq!(error.revert_name(), Some("AlreadyClaimed"), "{error}");
}

fn binary() -> PathBuf {
    let contracts = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let path = contracts.join("node_modules/.bin/cast");
    assert!(
        path.is_file(),
        "cast is not installed: run `cargo xtask test`, or `npm ci` in contracts/"
    );
    path
}
