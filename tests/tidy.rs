//! House rules that no compiler checks: who may import whom, and how long a file may be.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// Longest source file, without its tests.
const LINES_MAX: usize = 500;

/// Each crate's folder with the crates of ours that it may depend on.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    (
        "aggregator",
        &[
            "client",
            "compress",
            "proofs",
            "protocol",
            "sketch",
            "transport",
        ],
    ),
    ("contracts/client", &["protocol"]),
    ("crates/compress", &["protocol", "sketch"]),
    ("crates/devnet", &[]),
    (
        "crates/node",
        &["client", "compress", "protocol", "sketch", "transport"],
    ),
    ("crates/proofs", &["protocol"]),
    ("crates/protocol", &[]),
    ("crates/sim", &["protocol"]),
    ("crates/sketch", &["protocol"]),
    ("crates/transport", &["protocol"]),
    ("crates/valuation", &[]),
    ("models", &["protocol"]),
    (
        "trainer",
        &[
            "client",
            "compress",
            "models",
            "node",
            "proofs",
            "protocol",
            "sketch",
            "transport",
        ],
    ),
    (
        "validator",
        &[
            "client",
            "compress",
            "models",
            "node",
            "protocol",
            "transport",
            "valuation",
        ],
    ),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn imports_point_inwards() {
    for (folder, allowed) in MAY_IMPORT {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        let dependencies = manifest.split("[dev-dependencies]").next().unwrap();
        for line in dependencies.lines() {
            let Some(rest) = line.strip_prefix("convoke-") else {
                continue;
            };
            let name = rest.split(['.', ' ', '=']).next().unwrap();
            assert!(
                allowed.contains(&name),
                "{folder} must not depend on convoke-{name}"
            );
        }
    }
}

#[test]
fn no_source_file_outgrows_the_eye() {
    for file in sources(&root()) {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        let lines = code.lines().count();
        assert!(
            lines <= LINES_MAX,
            "{}: {lines} lines, at most {LINES_MAX}",
            file.display()
        );
    }
}

#[test]
fn protocol_reads_no_clock_and_does_no_io() {
    for file in sources(&root().join("crates/protocol/src")) {
        let text = fs::read_to_string(&file).unwrap();
        for word in [
            "std::fs",
            "std::net",
            "SystemTime",
            "Instant::now",
            "tokio",
            "rand::rng(",
        ] {
            assert!(!text.contains(word), "{}: {word}", file.display());
        }
    }
}

#[test]
fn the_code_map_names_every_crate() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for (folder, _) in MAY_IMPORT {
        let folder = folder.trim_end_matches("/client");
        assert!(
            map.contains(&format!("`{folder}/`")),
            "ARCHITECTURE.md lacks {folder}"
        );
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let skipped = [
            "target",
            "node_modules",
            "tests",
            "benches",
            "fuzz",
            "examples",
        ];
        if path.is_dir() && !name.starts_with('.') && !skipped.contains(&name.as_str()) {
            found.extend(sources(&path));
        } else if name.ends_with(".rs") && name != "tests.rs" {
            found.push(path);
        }
    }
    found
}
