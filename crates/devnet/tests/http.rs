//! The devnet over real HTTP.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::PathBuf;

use convoke_devnet::{Config, DEFAULT_CHAIN_ID, Devnet, DevnetError};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn config(journal: Option<PathBuf>) -> Config {
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        journal,
        chain_id: DEFAULT_CHAIN_ID,
        funded: Vec::new(),
    }
}

/// One request on a connection of its own: status and body.
async fn request(to: SocketAddr, method: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let head = format!(
        "{method} / HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // A server that refuses a body need not read it.
    let _ = stream.write_all(body).await;
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply).await;
    let reply = String::from_utf8(reply).unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

async fn post(to: SocketAddr, body: &str) -> Value {
    let (status, body) = request(to, "POST", body.as_bytes()).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn requests_and_batches_are_answered() {
    let devnet = Devnet::start(config(None)).await.unwrap();
    let to = devnet.local_addr();
    assert_eq!(devnet.url(), format!("http://{to}"));
    let chain = r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}"#;
    let reply = post(to, chain).await;
    assert_eq!(
        reply,
        json!({ "jsonrpc": "2.0", "id": 1, "result": "0x7a69" })
    );
    let replies = post(to, &format!("[{chain},{chain}]")).await;
    assert_eq!(replies, json!([reply, reply]));
}

#[tokio::test]
async fn what_is_no_request_gets_an_error_of_json_rpc() {
    let devnet = Devnet::start(config(None)).await.unwrap();
    let to = devnet.local_addr();
    let unknown = post(to, r#"{"jsonrpc":"2.0","id":5,"method":"eth_dance"}"#).await;
    assert_eq!(
        (&unknown["id"], &unknown["error"]["code"]),
        (&json!(5), &json!(-32601))
    );
    for malformed in ["", "{", "\u{0}", r#"{"method":"eth_chainId""#] {
        let reply = post(to, malformed).await;
        assert_eq!(reply["error"]["code"], -32700, "{malformed:?}");
        assert_eq!(reply["id"], Value::Null);
    }
    assert_eq!(post(to, "[]").await["error"]["code"], -32600);
    assert_eq!(post(to, "5").await["error"]["code"], -32600);
}

#[tokio::test]
async fn a_body_that_is_too_large_and_another_method_are_refused() {
    let devnet = Devnet::start(config(None)).await.unwrap();
    let to = devnet.local_addr();
    let large = vec![b' '; (4 << 20) + 1];
    assert_eq!(request(to, "POST", &large).await.0, 413);
    assert_eq!(request(to, "GET", b"").await.0, 405);
    let mut largest = r#"{"id":1,"method":"eth_blockNumber"}"#.to_owned();
    largest.extend(std::iter::repeat_n(' ', (4 << 20) - largest.len()));
    assert_eq!(post(to, &largest).await["result"], "0x0");
}

#[tokio::test]
async fn the_chain_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Some(dir.path().join("chain"));
    let newest = r#"{"id":1,"method":"eth_getBlockByNumber","params":["latest",false]}"#;
    let devnet = Devnet::start(config(journal.clone())).await.unwrap();
    let mine = r#"{"id":1,"method":"evm_mine"}"#;
    for _ in 0..3 {
        assert!(post(devnet.local_addr(), mine).await["error"].is_null());
    }
    let before = post(devnet.local_addr(), newest).await;
    devnet.shutdown();
    let devnet = Devnet::start(config(journal.clone())).await.unwrap();
    let after = post(devnet.local_addr(), newest).await;
    assert_eq!(after, before);
    assert_eq!(after["result"]["number"], "0x3");
    drop(devnet);
    let other = Config {
        chain_id: 5,
        ..config(journal)
    };
    let refused = Devnet::start(other).await;
    assert!(matches!(
        refused,
        Err(DevnetError::OtherChain {
            got: DEFAULT_CHAIN_ID,
            expected: 5,
            ..
        })
    ));
}

#[tokio::test]
async fn an_address_that_is_taken_is_an_error_and_a_stopped_devnet_frees_it() {
    let devnet = Devnet::start(config(None)).await.unwrap();
    let same = Config {
        listen: devnet.local_addr(),
        ..config(None)
    };
    // An idle connection must not keep the server alive.
    let idle = TcpStream::connect(same.listen).await.unwrap();
    let refused = Devnet::start(same.clone()).await;
    assert!(matches!(refused, Err(DevnetError::Listen { .. })));
    drop(devnet);
    loop {
        match Devnet::start(same.clone()).await {
            Ok(_) => break,
            Err(DevnetError::Listen { .. }) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
    }
    drop(idle);
}
