//! Addresses as people see them: with the checksum of EIP-55, which catches a mistyped digit
//! before money goes to it.

use convoke_protocol::identity::keccak;
use convoke_protocol::ids::Address;

/// The address with its checksum in the letters' case.
pub(crate) fn checksummed(address: Address) -> String {
    let digits = hex::encode(address.0);
    let hash = hex::encode(keccak(&[digits.as_bytes()]).0);
    let cased = digits
        .chars()
        .zip(hash.chars())
        .map(|(digit, nibble)| match nibble {
            '8'..='9' | 'a'..='f' => digit.to_ascii_uppercase(),
            _ => digit,
        });
    std::iter::once("0x".to_owned())
        .chain(cased.map(String::from))
        .collect()
}

/// Reads an address, of one case throughout or with the right checksum.
///
/// # Errors
/// What is wrong, for an argument's error message.
pub(crate) fn parse(text: &str) -> Result<Address, String> {
    let address: Address = text
        .parse()
        .map_err(|_| "an address has 40 hex digits behind 0x".to_owned())?;
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let mixed = digits.contains(|c: char| c.is_ascii_lowercase())
        && digits.contains(|c: char| c.is_ascii_uppercase());
    if mixed && !checksummed(address).ends_with(digits) {
        return Err(
            "its checksum (the letters' case, EIP-55) does not fit: is a digit mistyped?".into(),
        );
    }
    Ok(address)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The examples of the standard.
    const STANDARD: [&str; 4] = [
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
    ];

    #[test]
    fn the_examples_of_the_standard_come_out() {
        for text in STANDARD {
            assert_eq!(checksummed(parse(text).unwrap()), text);
        }
    }

    #[test]
    fn a_mistyped_digit_is_noticed_if_there_is_a_checksum() {
        let wrong = STANDARD[0].replace("ed", "ec");
        assert!(parse(&wrong).unwrap_err().contains("mistyped"));
        parse(&wrong.to_lowercase()).unwrap();
        parse(STANDARD[0].trim_start_matches("0x")).unwrap();
        assert!(parse("0x12").unwrap_err().contains("40 hex digits"));
    }
}
