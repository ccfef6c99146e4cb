#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use serde::Deserialize;

use super::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

#[test]
fn blocks_decode_to_what_gguf_makes_of_them() {
    let bytes = fs::read(fixture("blocks.safetensors")).unwrap();
    let tensors = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for encoding in Encoding::ALL.into_iter().filter(|kind| kind.is_quantized()) {
        let name = encoding.name();
        let blocks = tensors.tensor(&format!("{name}.bytes")).unwrap();
        let expected = tensors.tensor(&format!("{name}.values")).unwrap();
        let (expected, _) = expected.data().as_chunks::<4>();
        let mut values = vec![0.0; expected.len()];
        encoding.decode(blocks.data(), &mut values);
        for (at, (value, expected)) in values.iter().zip(expected).enumerate() {
            let expected = f32::from_le_bytes(*expected);
            let tolerance = 1e-6 * expected.abs().max(1e-3);
            assert!(
                (value - expected).abs() <= tolerance,
                "{name} {at}: {value}, expected {expected}"
            );
        }
    }
}

#[test]
fn quantizing_errs_by_half_a_step_at_most() {
    let values: Vec<f32> = (0..256)
        .map(|i| (i as f32 * 0.7).sin() * (i as f32))
        .collect();
    for (encoding, bytes, steps) in [
        (Encoding::Q8_0, to_q8_0(&values), 254.0),
        (Encoding::Q4_1, to_q4_1(&values), 15.0),
    ] {
        assert_eq!(Some(bytes.len()), encoding.bytes(values.len()));
        let mut decoded = vec![0.0; values.len()];
        encoding.decode(&bytes, &mut decoded);
        for (block, decoded) in values.chunks(32).zip(decoded.chunks(32)) {
            let most = block.iter().fold(0.0_f32, |most, w| most.max(w.abs()));
            // Half a step, and the scale's own rounding to half precision.
            let allowed = 2.0 * most / steps * 0.5 + most * 2e-3;
            for (value, decoded) in block.iter().zip(decoded) {
                assert!((value - decoded).abs() <= allowed, "{value}, got {decoded}");
            }
        }
    }
    let zeros = [0.0; 32];
    let mut decoded = [1.0; 32];
    Encoding::Q8_0.decode(&to_q8_0(&zeros), &mut decoded);
    assert_eq!(decoded, zeros);
    Encoding::Q4_1.decode(&to_q4_1(&zeros), &mut decoded);
    assert_eq!(decoded, zeros);
}

#[derive(Deserialize)]
struct Sample {
    text: String,
    ids: Vec<u32>,
}

#[test]
fn the_tokenizer_of_a_gguf_file_is_the_one_it_was_made_from() {
    let base = Base::open(&fixture("gguf")).unwrap();
    let tokenizer = base.tokenizer().unwrap();
    let file = Base::open(&fixture("llama")).unwrap().tokenizer().unwrap();
    let samples = fs::read(fixture("gguf/tokens.json")).unwrap();
    let samples: Vec<Sample> = serde_json::from_slice(&samples).unwrap();
    for Sample { text, ids } in samples {
        let encoding = tokenizer.encode(text.as_str(), false).unwrap();
        assert_eq!(encoding.get_ids(), ids, "{text:?}");
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
        let encoding = file.encode(text.as_str(), false).unwrap();
        assert_eq!(encoding.get_ids(), ids, "{text:?}");
    }
}

#[test]
fn a_tensor_is_read_by_name_and_shape_only() {
    let base = Base::open(&fixture("llama-bf16")).unwrap();
    let name = "model.norm.weight";
    assert_eq!(base.values(name, &[32]).unwrap().len(), 32);
    let error = base.values(name, &[33]).unwrap_err().to_string();
    assert!(error.contains("[32], the model has [33]"), "{error}");
    assert!(base.values("nothing", &[32]).is_err());
    let encodings: Vec<_> = base.tensors().map(|(_, _, encoding)| encoding).collect();
    assert!(encodings.iter().all(|&encoding| encoding == Encoding::Bf16));
}

#[test]
fn values_that_are_no_numbers_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixture("llama"), folder.path());
    let path = folder.path().join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let base = Base::open(folder.path()).unwrap();
    let names: Vec<_> = base
        .tensors()
        .map(|(name, shape, _)| (name.to_owned(), shape.to_vec()))
        .collect();
    let refused = names
        .iter()
        .filter(|(name, shape)| base.values(name, shape).is_err());
    assert_eq!(refused.count(), 1);
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// Opens a base and reads all of it; whatever the files say, this returns.
fn read_all(folder: &Path) -> Result<usize, ModelError> {
    let base = Base::open(folder)?;
    let names: Vec<_> = base
        .tensors()
        .map(|(name, shape, _)| (name.to_owned(), shape.to_vec()))
        .collect();
    for (name, shape) in &names {
        base.values(name, shape)?;
    }
    let _ = base.tokenizer();
    let _ = crate::arch::llama::LlamaConfig::from_hugging_face(base.config());
    Ok(names.len())
}

#[test]
fn whole_files_are_read_whole() {
    assert_eq!(read_all(&fixture("llama")).unwrap(), 20);
    assert_eq!(read_all(&fixture("llama-bf16")).unwrap(), 21);
    assert_eq!(read_all(&fixture("gguf")).unwrap(), 20);
}

fn damaged(name: &str, file: &str, damage: impl Fn(&mut Vec<u8>)) -> Result<usize, ModelError> {
    let folder = tempfile::tempdir().unwrap();
    let source = fixture(name);
    let mut bytes = fs::read(source.join(file)).unwrap();
    damage(&mut bytes);
    fs::write(folder.path().join(file), bytes).unwrap();
    let config = source.join(CONFIG);
    if file != CONFIG && config.exists() {
        fs::copy(config, folder.path().join(CONFIG)).unwrap();
    }
    read_all(folder.path())
}

const FILES: [(&str, &str); 2] = [("llama", "model.safetensors"), ("gguf", "model.gguf")];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn truncated_files_are_refused(which in 0..2_usize, cut: Index) {
        let (name, file) = FILES[which];
        let result = damaged(name, file, |bytes| bytes.truncate(cut.index(bytes.len())));
        prop_assert!(result.is_err());
    }

    #[test]
    fn mutated_files_do_no_harm(
        which in 0..2_usize,
        // Mostly in the head, where lengths and offsets are.
        changes in prop::collection::vec((any::<Index>(), any::<bool>(), any::<u8>()), 1..6),
    ) {
        let (name, file) = FILES[which];
        let _ = damaged(name, file, |bytes| {
            for (at, anywhere, byte) in &changes {
                let within = if *anywhere { bytes.len() } else { bytes.len().min(12_000) };
                bytes[at.index(within)] = *byte;
            }
        });
    }
}

#[test]
fn claims_larger_than_the_file_cost_no_memory() {
    // Every length in the head of a GGUF file, one after the other, set to the largest number.
    for at in (8..4096).step_by(4) {
        let _ = damaged("gguf", "model.gguf", |bytes| {
            bytes[at..at + 8].fill(0xff);
        });
        let _ = damaged("gguf", "model.gguf", |bytes| {
            bytes[at..at + 8].copy_from_slice(&(1_u64 << 20).to_le_bytes());
        });
    }
}

#[test]
fn sources_are_parsed_and_printed() {
    let hub = "hf:HuggingFaceTB/SmolLM2-135M"
        .parse::<BaseSource>()
        .unwrap();
    assert_eq!(hub.to_string(), "hf:HuggingFaceTB/SmolLM2-135M@main");
    assert_eq!(hub.to_string().parse::<BaseSource>().unwrap(), hub);
    for good in [
        "hf:a/b@v1.0",
        "https://example.org/models/x/",
        "http://127.0.0.1:80/x",
        "models/x",
        "/models/x",
    ] {
        let source = good.parse::<BaseSource>().unwrap();
        assert_eq!(source.to_string().parse::<BaseSource>().unwrap(), source);
    }
    for bad in [
        "",
        "hf:a",
        "hf:a/b/c",
        "hf:../b",
        "hf:a/b@../x",
        "hf:a/b@",
        "http://example.org/x",
        "ftp://example.org/x",
        "a\nb",
    ] {
        assert!(bad.parse::<BaseSource>().is_err(), "{bad:?}");
    }
}
