//! An endpoint with a bad line: it passes a request on, and loses the answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Starts a proxy before `upstream` that loses the answers to the first `losses` requests whose
/// body contains `method`. Returns its URL; it lives as long as the test's runtime.
pub(crate) async fn losing_answers(upstream: String, method: &'static str, losses: u32) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let left = Arc::new(AtomicU32::new(losses));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream, upstream.clone(), method, Arc::clone(&left)));
        }
    });
    url
}

/// One request for each connection.
async fn serve(mut stream: TcpStream, upstream: String, method: &str, left: Arc<AtomicU32>) {
    let body = read_body(&mut stream).await;
    let is_lost = String::from_utf8_lossy(&body).contains(method)
        && left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
            .is_ok();
    let answer = reqwest::Client::new()
        .post(upstream)
        .header("content-type", "application/json")
        .body(body)
        .send()
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    if is_lost {
        return;
    }
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        answer.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&answer).await.unwrap();
}

async fn read_body(stream: &mut TcpStream) -> Vec<u8> {
    let mut request = Vec::new();
    loop {
        let head_end = request.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(end) = head_end {
            let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.unwrap().trim().parse().unwrap();
            if request.len() >= end + 4 + length {
                return request.split_off(end + 4);
            }
        }
        assert_ne!(
            stream.read_buf(&mut request).await.unwrap(),
            0,
            "the client hung up"
        );
    }
}
