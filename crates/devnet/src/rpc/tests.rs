//! The methods, called as a client calls them, without HTTP.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use alloy_primitives::{Address, Bytes, TxKind, U64, U256, hex};
use serde_json::{Value, json};

use super::{BATCH_MAX, Node, answer};
use crate::journal::{Entry, Journal};
use crate::server::DEFAULT_CHAIN_ID;
use crate::testing::{COUNTER, GENESIS_TIME, address, creation, eip1559, funded, legacy, signed};

fn genesis() -> Entry {
    Entry::Genesis {
        chain_id: DEFAULT_CHAIN_ID,
        timestamp: GENESIS_TIME,
        funded: funded(),
    }
}

fn node() -> Node {
    Node::new(Journal::in_memory(genesis())).unwrap()
}

fn node_at(path: &Path) -> Node {
    Node::new(Journal::open(path, genesis()).unwrap()).unwrap()
}

fn ask(node: &mut Node, method: &str, params: &Value) -> Value {
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let reply = answer(node, request.to_string().as_bytes());
    assert_eq!(reply["id"], 1);
    reply
}

fn ok(node: &mut Node, method: &str, params: &Value) -> Value {
    let reply = ask(node, method, params);
    assert!(reply.get("error").is_none(), "{method}: {reply}");
    reply["result"].clone()
}

fn error(node: &mut Node, method: &str, params: &Value) -> (i64, String) {
    let reply = ask(node, method, params);
    let error = &reply["error"];
    let message = error["message"].as_str().unwrap().to_owned();
    (error["code"].as_i64().unwrap(), message)
}

fn number(value: &Value) -> u64 {
    serde_json::from_value::<U64>(value.clone()).unwrap().to()
}

fn send(node: &mut Node, raw: &Bytes) -> Value {
    ok(node, "eth_sendRawTransaction", &json!([raw]))
}

/// A node with a counter that was called `calls` times, once a block.
fn counting(calls: u64) -> (Node, Address) {
    let mut node = node();
    let counter = count(&mut node, calls);
    (node, counter)
}

fn count(node: &mut Node, calls: u64) -> Address {
    let counter = address(1).create(0);
    let create = eip1559(0, TxKind::Create, &creation(COUNTER));
    send(node, &signed(create));
    for nonce in 1..=calls {
        send(node, &signed(eip1559(nonce, TxKind::Call(counter), b"")));
    }
    counter
}

fn topic(value: u64) -> Value {
    json!(alloy_primitives::B256::from(U256::from(value)))
}

fn logs(node: &mut Node, filter: &Value) -> Vec<u64> {
    let logs = ok(node, "eth_getLogs", &json!([filter]));
    let logs = logs.as_array().unwrap().iter();
    logs.map(|log| number(&log["blockNumber"])).collect()
}

#[test]
fn filters_select_by_block_address_and_topic() {
    // The counter is made in block 1, and counts 1, 2, 3 in blocks 2, 3, 4.
    let (mut node, counter) = counting(3);
    let all = json!({ "fromBlock": "0x0" });
    assert_eq!(logs(&mut node, &all), [2, 3, 4]);
    assert_eq!(logs(&mut node, &json!({})), [4], "the newest block only");
    let some = json!({ "fromBlock": "0x1", "toBlock": "0x3" });
    assert_eq!(logs(&mut node, &some), [2, 3]);
    let hash = ok(&mut node, "eth_getBlockByNumber", &json!(["0x3", false]))["hash"].clone();
    assert_eq!(logs(&mut node, &json!({ "blockHash": hash })), [3]);

    let by = |address: Value, topics: Value| json!({ "fromBlock": "earliest", "address": address, "topics": topics });
    let mut select = |address, topics| logs(&mut node, &by(address, topics));
    let (here, elsewhere) = (json!(counter), json!(address(7)));
    assert_eq!(select(here.clone(), json!([])), [2, 3, 4]);
    assert!(select(elsewhere.clone(), json!([])).is_empty());
    assert_eq!(select(json!([elsewhere, here]), json!([])), [2, 3, 4]);
    assert_eq!(select(Value::Null, json!([topic(0xaa)])), [2, 3, 4]);
    assert!(select(Value::Null, json!([topic(0xab)])).is_empty());
    assert_eq!(select(Value::Null, json!([null, topic(2)])), [3]);
    let either = json!([[topic(0xaa), topic(5)], [topic(1), topic(3), topic(9)]]);
    assert_eq!(select(Value::Null, either), [2, 4]);
    let longer = json!([null, null, topic(1)]);
    assert!(
        select(Value::Null, longer).is_empty(),
        "there are two topics"
    );
}

#[test]
fn a_range_that_ends_before_it_begins_is_refused_and_one_still_to_come_is_empty() {
    let (mut node, _) = counting(1);
    let backwards = json!([{ "fromBlock": "0x2", "toBlock": "0x1" }]);
    assert_eq!(error(&mut node, "eth_getLogs", &backwards).0, -32602);
    // What a client asks that has seen everything so far.
    let next = json!({ "fromBlock": "0x3", "toBlock": "latest" });
    assert!(logs(&mut node, &next).is_empty());
    assert!(logs(&mut node, &json!({ "fromBlock": "0x3" })).is_empty());
    let unknown = json!([{ "blockHash": topic(1) }]);
    assert_eq!(error(&mut node, "eth_getLogs", &unknown).0, -32001);
}

#[test]
fn logs_say_where_they_are() {
    let (mut node, counter) = counting(1);
    let log = ok(&mut node, "eth_getLogs", &json!([{}]))[0].clone();
    let block = ok(&mut node, "eth_getBlockByNumber", &json!(["latest", true]));
    let hash = block["transactions"][0]["hash"].clone();
    let receipt = ok(&mut node, "eth_getTransactionReceipt", &json!([hash]));
    assert_eq!(receipt["logs"][0], log);
    assert_eq!(log["address"], json!(counter));
    assert_eq!(log["topics"], json!([topic(0xaa), topic(1)]));
    assert_eq!(log["data"], topic(1));
    assert_eq!(log["blockHash"], block["hash"]);
    assert_eq!(log["transactionHash"], hash);
    assert_eq!(
        (&log["logIndex"], &log["removed"]),
        (&json!("0x0"), &json!(false))
    );
    assert_eq!(receipt["status"], "0x1");
    assert_eq!(receipt["gasUsed"], block["gasUsed"]);
    assert_eq!(receipt["cumulativeGasUsed"], block["gasUsed"]);
    assert_eq!(receipt["from"], json!(address(1)));
    assert_eq!(receipt["to"], json!(counter));
    assert_eq!(receipt["contractAddress"], Value::Null);
    assert_eq!(receipt["logsBloom"], block["logsBloom"]);
    assert_eq!(receipt["type"], "0x2");
}

#[test]
fn a_revert_is_code_3_with_its_data_and_text() {
    let (mut node, counter) = counting(0);
    // Error("no")
    let word = |value: u64| alloy_primitives::B256::from(U256::from(value)).0;
    let mut text = [0; 32];
    text[..2].copy_from_slice(b"no");
    let data = [&hex!("08c379a0")[..], &word(32), &word(2), &text].concat();
    let request = |data: &[u8]| json!([{ "to": counter, "data": Bytes::copy_from_slice(data) }]);
    for method in ["eth_call", "eth_estimateGas"] {
        let reply = ask(&mut node, method, &request(&data));
        assert_eq!(reply["error"]["code"], 3);
        assert_eq!(reply["error"]["message"], "execution reverted: no");
        assert_eq!(reply["error"]["data"], json!(Bytes::from(data.clone())));
        // A custom error has no text.
        let reply = ask(&mut node, method, &request(&[1, 2, 3, 4]));
        assert_eq!(reply["error"]["message"], "execution reverted");
        assert_eq!(reply["error"]["data"], "0x01020304");
    }
    // A text that claims to be longer than it is.
    let claims = [&hex!("08c379a0")[..], &word(32), &[0xff; 32], &text].concat();
    let reply = ask(&mut node, "eth_call", &request(&claims));
    assert_eq!(reply["error"]["message"], "execution reverted");
}

#[test]
fn gas_estimates_suffice_and_are_tight() {
    let (mut node, counter) = counting(0);
    let count = json!([{ "from": address(1), "to": counter }]);
    let enough = number(&ok(&mut node, "eth_estimateGas", &count));
    let mut status_with = |nonce, gas_limit| {
        let mut transaction = eip1559(nonce, TxKind::Call(counter), b"");
        transaction.gas_limit = gas_limit;
        let hash = send(&mut node, &signed(transaction));
        ok(&mut node, "eth_getTransactionReceipt", &json!([hash]))["status"].clone()
    };
    assert_eq!(status_with(1, enough * 95 / 100), "0x0");
    assert_eq!(status_with(2, enough), "0x1");
    let transfer = json!([{ "from": address(1), "to": address(9), "value": "0x1" }]);
    assert_eq!(ok(&mut node, "eth_estimateGas", &transfer), "0x5208");
    // Nobody has this much.
    let rich = json!([{ "from": address(9), "to": address(1), "value": "0x1" }]);
    assert_eq!(error(&mut node, "eth_estimateGas", &rich).0, -32000);
}

#[test]
fn a_call_finds_accounts_as_it_asks_and_leaves_them_as_they_are() {
    let (mut node, counter) = counting(3);
    let call = json!({ "from": address(9), "to": counter });
    let mut count_with = |overrides: Value| {
        let output = ok(&mut node, "eth_call", &json!([call, "latest", overrides]));
        number(&json!(serde_json::from_value::<U256>(output).unwrap()))
    };
    let slot = alloy_primitives::B256::ZERO;
    let diff = json!({ counter.to_string(): { "stateDiff": { slot.to_string(): topic(41) } } });
    assert_eq!(count_with(diff.clone()), 42);
    let whole = json!({ counter.to_string(): { "state": {} } });
    assert_eq!(count_with(whole), 1);
    assert_eq!(count_with(json!({})), 4);
    // Code that returns the balance of its caller.
    let code = json!({
        counter.to_string(): { "code": "0x333160005260206000f3" },
        address(9).to_string(): { "balance": "0x7" },
    });
    assert_eq!(count_with(code), 7);
    // Nothing of it stayed, and estimates see it, too.
    assert_eq!(count_with(Value::Null), 4);
    let rich = json!({ "from": address(9), "to": address(1), "value": "0x1" });
    let funds = json!({ address(9).to_string(): { "balance": "0x1" } });
    let estimate = json!([rich, "latest", funds]);
    assert_eq!(ok(&mut node, "eth_estimateGas", &estimate), "0x5208");
    assert_eq!(
        error(&mut node, "eth_estimateGas", &json!([rich])).0,
        -32000
    );
}

#[test]
fn refusals_carry_the_code_that_clients_know() {
    let mut node = node();
    let raw = signed(legacy(7, Address::ZERO, U256::ZERO));
    let (code, message) = error(&mut node, "eth_sendRawTransaction", &json!([raw]));
    assert_eq!(code, -32000);
    assert!(message.starts_with("nonce too high"), "{message}");
    assert_eq!(error(&mut node, "eth_nonsense", &json!([])).0, -32601);
    assert_eq!(error(&mut node, "eth_getBalance", &json!([])).0, -32602);
    assert_eq!(
        error(&mut node, "eth_getBalance", &json!(["0x12"])).0,
        -32602
    );
    assert_eq!(error(&mut node, "eth_getLogs", &json!(["text"])).0, -32602);
}

#[test]
fn only_the_newest_state_is_kept() {
    let (mut node, counter) = counting(2);
    let latest = ok(
        &mut node,
        "eth_getStorageAt",
        &json!([counter, "0x0", "latest"]),
    );
    assert_eq!(latest, topic(2));
    for block in ["pending", "safe", "finalized", "0x3"] {
        let same = ok(
            &mut node,
            "eth_getStorageAt",
            &json!([counter, "0x0", block]),
        );
        assert_eq!(same, latest, "{block}");
    }
    let old = json!([counter, "0x0", "0x2"]);
    assert_eq!(error(&mut node, "eth_getStorageAt", &old).0, -32000);
}

#[test]
fn what_is_unknown_is_null() {
    let mut node = node();
    for (method, params) in [
        ("eth_getBlockByNumber", json!(["0x7", false])),
        ("eth_getBlockByHash", json!([topic(1), true])),
        ("eth_getTransactionByHash", json!([topic(1)])),
        ("eth_getTransactionReceipt", json!([topic(1)])),
        ("eth_getBlockReceipts", json!(["0x7"])),
    ] {
        assert_eq!(ok(&mut node, method, &params), Value::Null, "{method}");
    }
}

#[test]
fn a_snapshot_is_reverted_to_once_and_the_revert_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("chain");
    let mut node = node_at(&path);
    let counter = count(&mut node, 1);
    let slot = json!([counter, "0x0"]);
    let snapshot = ok(&mut node, "evm_snapshot", &json!([]));
    let hash = node.chain.hash();
    ok(&mut node, "evm_increaseTime", &json!([1000]));
    send(&mut node, &signed(eip1559(2, TxKind::Call(counter), b"")));
    assert_eq!(ok(&mut node, "eth_getStorageAt", &slot), topic(2));
    assert_eq!(ok(&mut node, "evm_revert", &json!([snapshot])), true);
    assert_eq!(ok(&mut node, "evm_revert", &json!([snapshot])), false);
    let mut restarted = node_at(&path);
    for node in [&mut node, &mut restarted] {
        assert_eq!(node.chain.hash(), hash);
        assert_eq!(ok(node, "eth_getStorageAt", &slot), topic(1));
    }
    // The same transaction can be sent again.
    send(
        &mut restarted,
        &signed(eip1559(2, TxKind::Call(counter), b"")),
    );
    assert_eq!(ok(&mut restarted, "eth_getStorageAt", &slot), topic(2));
}

#[test]
fn what_cannot_be_kept_has_not_happened() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("chain");
    let mut node = node_at(&path);
    count(&mut node, 1);
    node.journal().break_file();
    let before = node.chain.hash();
    let raw = signed(eip1559(2, TxKind::Call(address(9)), b""));
    assert_eq!(
        error(&mut node, "eth_sendRawTransaction", &json!([raw])).0,
        -32603
    );
    assert_eq!(error(&mut node, "evm_mine", &json!([])).0, -32603);
    let nonce = ok(&mut node, "eth_getTransactionCount", &json!([address(1)]));
    assert_eq!((node.chain.hash(), nonce), (before, json!("0x2")));
    assert_eq!(node_at(&path).chain.hash(), before);
}

#[test]
fn the_clock_moves_forwards_only() {
    let mut node = node();
    let far = GENESIS_TIME * 2;
    ok(&mut node, "evm_setNextBlockTimestamp", &json!([far]));
    ok(&mut node, "evm_mine", &json!([]));
    assert_eq!(node.chain.timestamp(), far);
    let back = json!([far - 1]);
    assert_eq!(
        error(&mut node, "evm_setNextBlockTimestamp", &back).0,
        -32000
    );
    ok(&mut node, "evm_mine", &json!([]));
    assert_eq!(node.chain.timestamp(), far, "and never runs backwards");
}

#[test]
fn fee_history_has_one_more_base_fee_than_blocks() {
    let (mut node, _) = counting(2);
    let history = ok(
        &mut node,
        "eth_feeHistory",
        &json!(["0xa", "latest", [50.0]]),
    );
    assert_eq!(history["oldestBlock"], "0x0");
    for (field, length) in [("baseFeePerGas", 5), ("gasUsedRatio", 4), ("reward", 4)] {
        assert_eq!(history[field].as_array().unwrap().len(), length, "{field}");
    }
}

#[test]
fn batches_are_answered_in_order_and_one_by_one() {
    let mut node = node();
    let batch = json!([
        { "jsonrpc": "2.0", "id": "a", "method": "eth_chainId" },
        { "jsonrpc": "2.0", "id": 7, "method": "nonsense" },
        { "jsonrpc": "2.0", "id": 8 },
        5,
    ]);
    let replies = answer(&mut node, batch.to_string().as_bytes());
    assert_eq!(replies[0]["result"], "0x7a69");
    assert_eq!(
        (&replies[0]["id"], &replies[1]["id"]),
        (&json!("a"), &json!(7))
    );
    assert_eq!(replies[1]["error"]["code"], -32601);
    assert_eq!(replies[2]["error"]["code"], -32600);
    assert_eq!(replies[2]["id"], 8, "it can be told which one was wrong");
    assert_eq!(replies[3]["error"]["code"], -32600);
    let many = json!(vec![0; BATCH_MAX + 1]);
    let refused = answer(&mut node, many.to_string().as_bytes());
    assert_eq!(refused["error"]["code"], -32600);
    let nothing = answer(&mut node, b"[]");
    assert_eq!(nothing["error"]["code"], -32600);
    let deep = "[".repeat(100_000);
    assert_eq!(answer(&mut node, deep.as_bytes())["error"]["code"], -32700);
}
