//! Encrypted key files in the Web3 Secret Storage form, version 3, that geth, Foundry and most
//! wallets read and write. scrypt or PBKDF2 makes a key of the password, AES-128-CTR hides the
//! secret, and a Keccak checksum tells a wrong password.

use aes::Aes128;
use aes::cipher::{KeyIvInit as _, StreamCipher as _};
use anyhow::{Context as _, bail, ensure};
use convoke_protocol::identity::{Wallet, keccak};
use convoke_protocol::ids::Address;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::fill_random;

/// Bytes of the key that the password gives: the first half encrypts, the second is checked.
const DERIVED_BYTES: usize = 32;
/// Most memory that a foreign file can make scrypt take, in bytes.
const SCRYPT_BYTES_MAX: u64 = 1 << 30;
/// Most of scrypt's passes over that memory that a foreign file can ask for.
const SCRYPT_PASSES_MAX: u32 = 64;
/// Most iterations of PBKDF2 that a foreign file can ask for.
const PBKDF2_ITERATIONS_MAX: u32 = 50_000_000;

/// How dear a guess of the password is: scrypt's N as a power of two, with r = 8 and p = 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost(u8);

impl Cost {
    /// What geth takes: 256 MiB and about a second for each guess.
    pub(crate) const STANDARD: Self = Self(18);
    /// For tests.
    #[cfg(test)]
    pub(crate) const LIGHT: Self = Self(4);
}

/// An encrypted key file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Keystore {
    /// Whose key it is, without `0x`; some programs leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(alias = "Crypto")]
    crypto: Crypto,
    #[serde(default)]
    id: String,
    version: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Crypto {
    cipher: String,
    cipherparams: CipherParams,
    #[serde(with = "hex")]
    ciphertext: Vec<u8>,
    #[serde(flatten)]
    kdf: Kdf,
    #[serde(with = "hex")]
    mac: Vec<u8>,
}

#[derive(Debug, Serialize, Deserialize)]
struct CipherParams {
    #[serde(with = "hex")]
    iv: Vec<u8>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kdf", content = "kdfparams", rename_all = "lowercase")]
enum Kdf {
    Scrypt {
        dklen: usize,
        n: u64,
        p: u32,
        r: u32,
        #[serde(with = "hex")]
        salt: Vec<u8>,
    },
    Pbkdf2 {
        c: u32,
        dklen: usize,
        prf: String,
        #[serde(with = "hex")]
        salt: Vec<u8>,
    },
}

impl Keystore {
    /// Encrypts a key.
    pub(crate) fn seal(wallet: &Wallet, password: &str, cost: Cost) -> anyhow::Result<Self> {
        let (mut salt, mut iv, mut id) = ([0; 32], [0; 16], [0; 16]);
        for random in [&mut salt[..], &mut iv, &mut id] {
            fill_random(random)?;
        }
        let kdf = Kdf::Scrypt {
            dklen: DERIVED_BYTES,
            n: 1 << cost.0,
            p: 1,
            r: 8,
            salt: salt.into(),
        };
        let derived = kdf.derive(password)?;
        let mut ciphertext = wallet.secret_bytes().to_vec();
        apply_cipher(&derived, &iv, &mut ciphertext)?;
        Ok(Self {
            address: Some(hex::encode(wallet.address().0)),
            crypto: Crypto {
                cipher: "aes-128-ctr".into(),
                cipherparams: CipherParams { iv: iv.into() },
                mac: mac(&derived, &ciphertext),
                ciphertext,
                kdf,
            },
            id: uuid(id),
            version: 3,
        })
    }

    /// Decrypts the key.
    ///
    /// # Errors
    /// If the password is wrong, or the file is of a form that is not read.
    pub(crate) fn open(&self, password: &str) -> anyhow::Result<Wallet> {
        let crypto = &self.crypto;
        ensure!(
            self.version == 3,
            "it is a keystore of version {}, only version 3 is read",
            self.version
        );
        ensure!(
            crypto.cipher == "aes-128-ctr",
            "its cipher is {:?}, only \"aes-128-ctr\" is read",
            crypto.cipher
        );
        let derived = crypto.kdf.derive(password)?;
        ensure!(
            mac(&derived, &crypto.ciphertext) == crypto.mac,
            "the password is wrong"
        );
        let mut secret = Zeroizing::new(crypto.ciphertext.clone());
        apply_cipher(&derived, &crypto.cipherparams.iv, &mut secret)?;
        let secret: &[u8; 32] = secret
            .as_slice()
            .try_into()
            .context("it holds no key of 32 bytes")?;
        let wallet = Wallet::from_bytes(secret).context("it holds no usable key")?;
        if let Some(address) = self.address() {
            ensure!(
                address == wallet.address(),
                "it names the address {address}, but its key is of {}",
                wallet.address()
            );
        }
        Ok(wallet)
    }

    /// Whose key it says it is.
    pub(crate) fn address(&self) -> Option<Address> {
        self.address.as_deref()?.parse().ok()
    }
}

impl Kdf {
    /// The key that the password gives.
    fn derive(&self, password: &str) -> anyhow::Result<Zeroizing<[u8; DERIVED_BYTES]>> {
        let mut derived = Zeroizing::new([0; DERIVED_BYTES]);
        let dklen = match self {
            Self::Scrypt { dklen, .. } | Self::Pbkdf2 { dklen, .. } => *dklen,
        };
        ensure!(
            dklen == DERIVED_BYTES,
            "its dklen is {dklen}, only {DERIVED_BYTES} is read"
        );
        match self {
            Self::Scrypt { n, p, r, salt, .. } => {
                let params = scrypt_params(*n, *r, *p)?;
                scrypt::scrypt(password.as_bytes(), salt, &params, derived.as_mut_slice())
                    .ok()
                    .context("scrypt gives no key")?;
            }
            Self::Pbkdf2 { c, prf, salt, .. } => {
                ensure!(
                    prf == "hmac-sha256",
                    "its prf is {prf:?}, only \"hmac-sha256\" is read"
                );
                ensure!(
                    (1..=PBKDF2_ITERATIONS_MAX).contains(c),
                    "it asks for {c} iterations, 1 to {PBKDF2_ITERATIONS_MAX} are done"
                );
                pbkdf2::pbkdf2_hmac::<Sha256>(
                    password.as_bytes(),
                    salt,
                    *c,
                    derived.as_mut_slice(),
                );
            }
        }
        Ok(derived)
    }
}

/// scrypt's parameters, if they are such that a file of a stranger cannot take all memory.
fn scrypt_params(n: u64, r: u32, p: u32) -> anyhow::Result<scrypt::Params> {
    let bytes = n.saturating_mul(u64::from(r)).saturating_mul(128);
    if !n.is_power_of_two() || bytes > SCRYPT_BYTES_MAX || !(1..=SCRYPT_PASSES_MAX).contains(&p) {
        bail!("its scrypt parameters n = {n}, r = {r}, p = {p} are out of range");
    }
    let log_n = u8::try_from(n.ilog2()).context("n is out of range")?;
    scrypt::Params::new(log_n, r, p, DERIVED_BYTES)
        .ok()
        .with_context(|| {
            format!("its scrypt parameters n = {n}, r = {r}, p = {p} are not those of RFC 7914")
        })
}

fn apply_cipher(derived: &[u8; DERIVED_BYTES], iv: &[u8], data: &mut [u8]) -> anyhow::Result<()> {
    ctr::Ctr128BE::<Aes128>::new_from_slices(&derived[..16], iv)
        .context("its iv has not 16 bytes")?
        .apply_keystream(data);
    Ok(())
}

fn mac(derived: &[u8; DERIVED_BYTES], ciphertext: &[u8]) -> Vec<u8> {
    keccak(&[&derived[16..], ciphertext]).0.to_vec()
}

/// A random UUID, version 4.
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits = hex::encode(bytes);
    [0..8, 8..12, 12..16, 16..20, 20..32]
        .map(|part| digits[part].to_owned())
        .join("-")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SECRET: &str = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d";

    /// The standard's test vector for PBKDF2.
    const PBKDF2: &str = r#"{"crypto":{"cipher":"aes-128-ctr",
        "cipherparams":{"iv":"6087dab2f9fdbbfaddc31a909735c1e6"},
        "ciphertext":"5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
        "kdf":"pbkdf2","kdfparams":{"c":262144,"dklen":32,"prf":"hmac-sha256",
        "salt":"ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"},
        "mac":"517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"},
        "id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}"#;

    /// A file of geth's tests, with `Crypto` as old programs write it. The standard's own vector
    /// for scrypt has parameters that RFC 7914 forbids, N = 2^18 with r = 1.
    const SCRYPT: &str = r#"{"address":"7ef5a6135f1fd6a02593eedc869c6d41d934aef8",
        "Crypto":{"cipher":"aes-128-ctr",
        "ciphertext":"1d0839166e7a15b9c1333fc865d69858b22df26815ccf601b28219b6192974e1",
        "cipherparams":{"iv":"8df6caa7ff1b00c4e871f002cb7921ed"},
        "kdf":"scrypt","kdfparams":{"dklen":32,"n":8,"p":16,"r":8,
        "salt":"e5e6ef3f4ea695f496b643ebd3f75c0aa58ef4070e90c80c5d3fb0241bf1595c"},
        "mac":"6d16dfde774845e4585357f24bce530528bc69f4f84e1e22880d34fa45c273e5"},
        "id":"950077c7-71e3-4c44-a4a1-143919141ed4","version":3}"#;

    fn wallet() -> Wallet {
        Wallet::from_bytes(&[7; 32]).unwrap()
    }

    #[test]
    fn files_of_other_programs_open() {
        let store: Keystore = serde_json::from_str(PBKDF2).unwrap();
        let wallet = store.open("testpassword").unwrap();
        assert_eq!(hex::encode(wallet.secret_bytes()), SECRET);
        assert_eq!(store.address(), None);
        let store: Keystore = serde_json::from_str(SCRYPT).unwrap();
        let address = store.open("foobar").unwrap().address();
        assert_eq!(store.address(), Some(address));
    }

    #[test]
    fn what_is_sealed_opens_with_its_password_alone() {
        let sealed = Keystore::seal(&wallet(), "pässword", Cost::LIGHT).unwrap();
        let text = serde_json::to_string(&sealed).unwrap();
        assert!(!text.contains(&hex::encode([7; 32])));
        let store: Keystore = serde_json::from_str(&text).unwrap();
        assert_eq!(store.address(), Some(wallet().address()));
        assert_eq!(
            store.open("pässword").unwrap().address(),
            wallet().address()
        );
        assert_eq!(
            store.open("password").unwrap_err().to_string(),
            "the password is wrong"
        );
    }

    #[test]
    fn two_seals_of_one_key_have_nothing_in_common() {
        let [one, two] = [(); 2].map(|()| Keystore::seal(&wallet(), "p", Cost::LIGHT).unwrap());
        assert_ne!(one.crypto.ciphertext, two.crypto.ciphertext);
        assert_ne!(one.id, two.id);
        assert_eq!(one.id.len(), 36);
    }

    #[test]
    fn a_strangers_file_takes_no_memory_and_no_panic() {
        let spoil = |from: &str, to: &str| {
            let files = [(PBKDF2, "testpassword"), (SCRYPT, "foobar")];
            let spoilt = files.iter().filter(|(text, _)| text.contains(from));
            assert!(spoilt.clone().count() > 0, "{from}");
            for (text, password) in spoilt {
                if let Ok(store) = serde_json::from_str::<Keystore>(&text.replace(from, to)) {
                    assert!(store.open(password).is_err(), "{from} -> {to}");
                }
            }
        };
        spoil("\"n\":8", "\"n\":9223372036854775808");
        spoil("\"n\":8", "\"n\":0");
        spoil("\"n\":8", "\"n\":7");
        spoil("\"r\":8", "\"r\":0");
        spoil("\"r\":8", "\"r\":4294967295");
        spoil("\"p\":16", "\"p\":4294967295");
        spoil("\"c\":262144", "\"c\":0");
        spoil("\"c\":262144", "\"c\":4294967295");
        spoil("\"dklen\":32", "\"dklen\":8");
        spoil("hmac-sha256", "hmac-md5");
        spoil("aes-128-ctr", "aes-128-cbc");
        spoil("\"version\":3", "\"version\":1");
        spoil("6087dab2", "60");
    }

    #[test]
    fn a_file_that_names_another_address_is_refused() {
        let mut sealed = Keystore::seal(&wallet(), "p", Cost::LIGHT).unwrap();
        sealed.address = Some("11".repeat(20));
        assert!(sealed.open("p").unwrap_err().to_string().contains("names"));
    }
}
