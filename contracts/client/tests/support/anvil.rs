//! anvil, as npm installs it, as a child process.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{Endpoint, funder};

/// A running anvil; killed when dropped.
pub(crate) struct Anvil {
    child: Child,
    rpc: String,
}

/// Starts anvil on a free port.
pub(crate) fn start() -> Anvil {
    let mut child = Command::new(binary())
        .args(["--port", "0", "--chain-id", "31337", "--accounts", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = lines
        .by_ref()
        .find_map(|line| {
            line.unwrap()
                .strip_prefix("Listening on ")
                .map(str::to_owned)
        })
        .expect("anvil says where it listens");
    // anvil goes on writing; a closed pipe would end it.
    std::thread::spawn(move || lines.for_each(drop));
    Anvil {
        child,
        rpc: format!("http://{address}"),
    }
}

impl Anvil {
    /// Where it is and who has its coins.
    pub(crate) async fn endpoint(&self) -> Endpoint {
        let funder = funder();
        let endpoint = Endpoint {
            rpc: self.rpc.clone(),
            funder,
        };
        // 10,000 coins.
        let params = format!(
            r#"["{}","0x21e19e0c9bab2400000"]"#,
            endpoint.funder.address()
        );
        endpoint.request("anvil_setBalance", &params).await;
        endpoint
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn binary() -> PathBuf {
    let contracts = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let path = contracts.join("node_modules/.bin/anvil");
    assert!(
        path.is_file(),
        "anvil is not installed: run `cargo xtask test`, or `npm ci` in contracts/"
    );
    path
}
