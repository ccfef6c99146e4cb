//! Prepares the ABIs for `sol!`, which knows structs of up to 24 fields: larger ones are given to
//! it as two, one after the other. For structs of single words the encoding is the same; only the
//! selector differs, which `src/abi.rs` puts right. Written besides is each struct in one piece,
//! so that nothing else depends on the order of the fields.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

const FIELDS_MAX: usize = 24;
/// Fields in the first of the two.
const HEAD_FIELDS: usize = 16;
const CONTRACTS: [&str; 2] = ["TaskManager", "RoundManager"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let artifacts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../artifacts");
    let mut wholes = BTreeMap::new();
    for contract in CONTRACTS {
        let file = artifacts.join(format!("{contract}.json"));
        println!("cargo::rerun-if-changed={}", file.display());
        let text = std::fs::read_to_string(&file).expect("the artifact is committed");
        let mut artifact: Value = serde_json::from_str(&text).expect("the artifact is JSON");
        let abi = artifact["abi"]
            .as_array_mut()
            .expect("the artifact has an ABI");
        for item in abi {
            for side in ["inputs", "outputs"] {
                if let Some(parameters) = item.get_mut(side).and_then(Value::as_array_mut) {
                    let split = |parameter| split(parameter, contract, &mut wholes);
                    *parameters = parameters.drain(..).flat_map(split).collect();
                }
            }
        }
        std::fs::write(out.join(format!("{contract}.json")), artifact.to_string())
            .expect("OUT_DIR can be written");
    }
    let wholes: String = wholes.into_values().collect();
    std::fs::write(out.join("large_structs.rs"), wholes).expect("OUT_DIR can be written");
}

/// Notes the text of the struct in one piece under its name.
fn split(parameter: Value, contract: &str, wholes: &mut BTreeMap<String, String>) -> Vec<Value> {
    let fields = match parameter["components"].as_array() {
        Some(fields) if parameter["type"] == "tuple" && fields.len() > FIELDS_MAX => fields,
        _ => return vec![parameter],
    };
    let (head, tail) = fields.split_at(HEAD_FIELDS);
    // `struct ITaskManagerTypes.TaskSpec`
    let full = text(&parameter["internalType"]);
    let name = full.rsplit('.').next().expect("a split has a part");
    wholes.insert(name.to_owned(), whole(contract, name, head, tail));
    let of = |fields: &[Value], which: &str| {
        assert!(
            fields.iter().all(|field| is_word(&field["type"])),
            "a struct of more than {FIELDS_MAX} fields has a field that is no single word"
        );
        json!({
            "name": which.to_lowercase(),
            "type": "tuple",
            "internalType": format!("{full}{which}"),
            "components": fields,
        })
    };
    vec![of(head, "Head"), of(tail, "Tail")]
}

fn whole(contract: &str, name: &str, head: &[Value], tail: &[Value]) -> String {
    let list = |fields: &[Value], line: &dyn Fn(&str, &Value) -> String| -> String {
        fields.iter().map(|f| line(text(&f["name"]), f)).collect()
    };
    let declared = |name: &str, field: &Value| {
        format!(
            "    pub(crate) {name}: {},\n",
            rust_type(text(&field["type"]))
        )
    };
    let given = |name: &str, _: &Value| format!("{name}: self.{name}, ");
    let from = |part: &'static str| move |name: &str, _: &Value| format!("{name}: {part}.{name}, ");
    let module: String = contract
        .char_indices()
        .map(|(at, c)| match c.is_ascii_uppercase() && at > 0 {
            true => format!("_{}", c.to_ascii_lowercase()),
            false => c.to_ascii_lowercase().to_string(),
        })
        .collect();
    let path = format!("crate::abi::{module}::I{contract}Types::{name}");
    format!(
        "/// `{name}` of `{contract}`.\n\
         #[derive(Debug, Clone, PartialEq, Eq)]\n#[allow(non_snake_case, dead_code)]\n\
         pub(crate) struct {name} {{\n{}{}}}\n\n\
         #[allow(dead_code)]\nimpl {name} {{\n\
         pub(crate) fn split(self) -> ({path}Head, {path}Tail) {{\n\
         ({path}Head {{ {} }}, {path}Tail {{ {} }})\n}}\n\
         pub(crate) fn join(head: {path}Head, tail: {path}Tail) -> Self {{\n\
         Self {{ {}{} }}\n}}\n}}\n\n",
        list(head, &declared),
        list(tail, &declared),
        list(head, &given),
        list(tail, &given),
        list(head, &from("head")),
        list(tail, &from("tail")),
    )
}

fn rust_type(kind: &str) -> String {
    match kind {
        "address" => "alloy::primitives::Address".to_owned(),
        "bool" => "bool".to_owned(),
        "bytes32" => "alloy::primitives::B256".to_owned(),
        "uint8" | "uint16" | "uint32" | "uint64" | "uint128" => kind.replace("uint", "u"),
        other => panic!("a large struct has a field of type {other}, for which there is no rule"),
    }
}

fn is_word(kind: &Value) -> bool {
    let kind = text(kind);
    let is_number = kind.starts_with("uint") || kind.starts_with("int");
    let is_bytes = kind.starts_with("bytes") && kind != "bytes";
    !kind.ends_with(']') && (is_number || is_bytes || kind == "address" || kind == "bool")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text in the ABI")
}
