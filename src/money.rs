//! Token amounts as people write them: decimal, 18 places. Machines get base units.

use convoke_protocol::ids::Amount;

/// Decimal places of the token and of the chain's own coin.
const DECIMALS: usize = 18;

/// Base units in one token.
const ONE: u128 = 10u128.pow(18);

/// So many whole tokens.
pub(crate) const fn tokens(whole: u128) -> Amount {
    Amount(whole * ONE)
}

/// Reads `12`, `0.5`, `1,000.25`.
///
/// # Errors
/// What is wrong, for an argument's error message.
pub(crate) fn parse(text: &str) -> Result<Amount, String> {
    let plain: String = text.chars().filter(|c| !matches!(c, ',' | '_')).collect();
    let (whole, fraction) = plain.split_once('.').unwrap_or((&plain, ""));
    let digits = |part: &str| part.chars().all(|c| c.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !digits(whole) || !digits(fraction) {
        return Err("an amount in tokens looks like 12 or 0.5".into());
    }
    if fraction.len() > DECIMALS {
        return Err(format!(
            "a token has {DECIMALS} decimal places, this has {}",
            fraction.len()
        ));
    }
    format!("{whole}{fraction:0<DECIMALS$}")
        .parse()
        .map(Amount)
        .map_err(|_| "more tokens than can exist".to_owned())
}

/// The exact amount in tokens: `1,234.5`, without trailing zeros.
pub(crate) fn exact(amount: Amount) -> String {
    let (whole, fraction) = (amount.0 / ONE, amount.0 % ONE);
    let digits = format!("{fraction:0DECIMALS$}");
    match digits.trim_end_matches('0') {
        "" => grouped(whole),
        digits => format!("{}.{digits}", grouped(whole)),
    }
}

/// The amount in tokens with two places, rounded down: `1,234.56`. Something is never shown as
/// nothing.
pub(crate) fn short(amount: Amount) -> String {
    let cents = amount.0 / (ONE / 100);
    match (amount.0, cents) {
        (1.., 0) => "<0.01".into(),
        _ => format!("{}.{:02}", grouped(cents / 100), cents % 100),
    }
}

fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_people_write_them() {
        assert_eq!(parse("12").unwrap(), tokens(12));
        assert_eq!(parse("0.5").unwrap(), Amount(ONE / 2));
        assert_eq!(parse(".5").unwrap(), Amount(ONE / 2));
        assert_eq!(parse("1,000.25").unwrap(), Amount(1_000 * ONE + ONE / 4));
        assert_eq!(parse("0.000000000000000001").unwrap(), Amount(1));
    }

    #[test]
    fn what_is_no_amount_is_refused_with_a_reason() {
        for text in [
            "",
            ".",
            "-1",
            "1e3",
            "1.2.3",
            "ten",
            "0.0000000000000000001",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&"9".repeat(40)).unwrap_err().contains("more tokens"));
    }

    #[test]
    fn amounts_are_shown_exactly_or_rounded_down() {
        assert_eq!(exact(tokens(10_000)), "10,000");
        assert_eq!(exact(Amount(1)), "0.000000000000000001");
        assert_eq!(exact(Amount(1_234 * ONE + ONE / 2)), "1,234.5");
        assert_eq!(
            short(Amount(1_234_567 * ONE + ONE / 100 * 99 + 1)),
            "1,234,567.99"
        );
        assert_eq!(short(Amount(1)), "<0.01");
        assert_eq!(short(Amount::ZERO), "0.00");
    }

    #[test]
    fn what_is_shown_exactly_reads_back() {
        for amount in [0, 1, ONE - 1, ONE, 123_456_789 * ONE + 42] {
            assert_eq!(parse(&exact(Amount(amount))).unwrap(), Amount(amount));
        }
    }
}
