//! anvil, as npm installs it, as a child process.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use convoke_protocol::identity::Wallet;

use super::Endpoint;

/// The first of the accounts that anvil funds; its key is public.
const FUNDED_KEY: &str = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

/// A running anvil; killed when dropped.
pub(crate) struct Anvil {
    child: Child,
    rpc: String,
}

/// Starts anvil on a free port.
pub(crate) fn start() -> Anvil {
    let mut child = Command::new(binary())
        .args(["--port", "0", "--chain-id", "31337", "--accounts", "1"])
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
    pub(crate) fn endpoint(&self) -> Endpoint {
        let mut secret = [0; 32];
        for (byte, digits) in secret.iter_mut().zip(FUNDED_KEY.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap();
        }
        Endpoint {
            rpc: self.rpc.clone(),
            funder: Wallet::from_bytes(&secret).unwrap(),
        }
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
