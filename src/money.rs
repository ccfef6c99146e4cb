//! Amounts as people write them: decimal, in whole tokens or in whole coins of the chain. Base
//! units appear only where they are called so.

use std::fmt;

use convoke_protocol::ids::Amount;
use serde_json::{Value, json};

use crate::failure::usage;

/// Decimal places of every chain's own coin, and of tokens that Convoke deploys.
const COIN_DECIMALS: u8 = 18;
/// A token with more decimal places has no amounts that 128 bits can hold.
const DECIMALS_MAX: u8 = 38;
/// Longest symbol that is shown: it is whatever the token's author wrote.
const SYMBOL_CHARS_MAX: usize = 12;

/// So many whole tokens of 18 decimal places.
pub(crate) const fn tokens(whole: u128) -> Amount {
    Amount(whole * 10u128.pow(COIN_DECIMALS as u32))
}

/// An amount as typed: `12`, `0.5`, `1,000.25`. How many base units that is only the token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decimal {
    /// Digits, without leading zeros.
    whole: String,
    /// Digits, without trailing zeros.
    fraction: String,
}

/// Reads an amount.
///
/// # Errors
/// What is wrong, for an argument's error message.
pub(crate) fn parse(text: &str) -> Result<Decimal, String> {
    let plain: String = text.chars().filter(|c| !matches!(c, ',' | '_')).collect();
    let (whole, fraction) = plain.split_once('.').unwrap_or((&plain, ""));
    let digits = |part: &str| part.chars().all(|c| c.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !digits(whole) || !digits(fraction) {
        return Err("an amount looks like 12 or 0.5".into());
    }
    Ok(Decimal {
        whole: whole.trim_start_matches('0').to_owned(),
        fraction: fraction.trim_end_matches('0').to_owned(),
    })
}

impl Decimal {
    /// Whether it is nothing at all, in any unit.
    pub(crate) fn is_zero(&self) -> bool {
        self.whole.is_empty() && self.fraction.is_empty()
    }
}

impl fmt::Display for Decimal {
    /// As it would be typed: `1000.25`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = match self.whole.as_str() {
            "" => "0",
            whole => whole,
        };
        match self.fraction.as_str() {
            "" => f.write_str(whole),
            fraction => write!(f, "{whole}.{fraction}"),
        }
    }
}

/// What amounts are counted in: a token, or the chain's own coin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit {
    /// `CVK`, `ETH`.
    pub(crate) symbol: String,
    /// Decimal places: a whole one is 10 to this power of base units.
    pub(crate) decimals: u8,
}

impl Default for Unit {
    /// Tokens of 18 decimal places that nobody asked for their name.
    fn default() -> Self {
        Self::coin("tokens")
    }
}

impl Unit {
    /// A token as its contract describes it; the symbol is made fit to be printed.
    pub(crate) fn token(symbol: &str, decimals: u8) -> anyhow::Result<Self> {
        if decimals > DECIMALS_MAX {
            anyhow::bail!(
                "the token has {decimals} decimal places, at most {DECIMALS_MAX} are supported"
            );
        }
        let symbol: String = symbol
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, '-' | '.' | '$'))
            .take(SYMBOL_CHARS_MAX)
            .collect();
        Ok(Self {
            symbol: if symbol.is_empty() {
                "tokens".into()
            } else {
                symbol
            },
            decimals,
        })
    }

    /// A chain's own coin.
    pub(crate) fn coin(symbol: &str) -> Self {
        Self {
            symbol: symbol.into(),
            decimals: COIN_DECIMALS,
        }
    }

    /// What was typed, in base units.
    ///
    /// # Errors
    /// Wrong usage, if it has more places than the unit or is too large.
    pub(crate) fn amount(&self, typed: &Decimal) -> anyhow::Result<Amount> {
        let places = usize::from(self.decimals);
        let (whole, fraction) = (&typed.whole, &typed.fraction);
        if fraction.len() > places {
            return Err(usage(format!(
                "{} has {places} decimal places, the amount {typed} has {}",
                self.symbol,
                fraction.len()
            )));
        }
        format!("0{whole}{fraction:0<places$}")
            .parse()
            .map(Amount)
            .map_err(|_| usage(format!("{whole} {} are more than can exist", self.symbol)))
    }

    /// The exact amount with its unit: `1,234.5 CVK`.
    pub(crate) fn exact(&self, amount: Amount) -> String {
        format!("{} {}", self.number(amount), self.symbol)
    }

    /// The exact amount for people: `1,234.5`, without trailing zeros.
    pub(crate) fn number(&self, amount: Amount) -> String {
        let (whole, fraction) = self.split(amount);
        match fraction.as_str() {
            "" => grouped(whole),
            digits => format!("{}.{digits}", grouped(whole)),
        }
    }

    /// The exact amount for programs: `1234.5`.
    pub(crate) fn plain(&self, amount: Amount) -> String {
        let (whole, fraction) = self.split(amount);
        match fraction.as_str() {
            "" => whole.to_string(),
            digits => format!("{whole}.{digits}"),
        }
    }

    /// The amount with two places, rounded down: `1,234.56`. Something is never shown as nothing.
    pub(crate) fn short(&self, amount: Amount) -> String {
        // Two more digits on either side, so that a token of fewer than two places has cents too.
        let one = self.one();
        let (whole, rest) = (amount.0 / one, amount.0 % one);
        let cents = if one >= 100 {
            rest / (one / 100)
        } else {
            rest * 100 / one
        };
        match (amount.0, whole, cents) {
            (1.., 0, 0) => "<0.01".into(),
            _ => format!("{}.{cents:02}", grouped(whole)),
        }
    }

    /// Writes an amount into a JSON object: `name` in whole tokens as a decimal string, and the
    /// same in base units in the object's `base_units`.
    pub(crate) fn put(&self, object: &mut Value, name: &str, amount: Amount) {
        object[name] = json!(self.plain(amount));
        object["base_units"][name] = json!(amount);
    }

    fn one(&self) -> u128 {
        10u128.pow(u32::from(self.decimals))
    }

    /// Whole tokens, and the digits behind the point without trailing zeros.
    fn split(&self, amount: Amount) -> (u128, String) {
        let (one, places) = (self.one(), usize::from(self.decimals));
        let (whole, fraction) = (amount.0 / one, amount.0 % one);
        if places == 0 {
            return (whole, String::new());
        }
        let digits = format!("{fraction:0places$}");
        (whole, digits.trim_end_matches('0').to_owned())
    }
}

/// A number with a comma between every three digits.
pub(crate) fn grouped(number: u128) -> String {
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

    const ONE: u128 = 10u128.pow(18);

    fn unit(decimals: u8) -> Unit {
        Unit::token("CVK", decimals).unwrap()
    }

    fn read(text: &str, decimals: u8) -> u128 {
        unit(decimals).amount(&parse(text).unwrap()).unwrap().0
    }

    #[test]
    fn amounts_are_read_as_people_write_them() {
        assert_eq!(read("12", 18), 12 * ONE);
        assert_eq!(read("0.5", 18), ONE / 2);
        assert_eq!(read(".5", 18), ONE / 2);
        assert_eq!(read("1,000.25", 18), 1_000 * ONE + ONE / 4);
        assert_eq!(read("0.000000000000000001", 18), 1);
        assert_eq!(read("007.50", 6), 7_500_000);
        assert_eq!(read("7.000", 0), 7);
        assert_eq!(read("0", 18), 0);
        assert!(parse("0.00").unwrap().is_zero() && !parse("0.01").unwrap().is_zero());
    }

    #[test]
    fn what_is_no_amount_is_refused_with_a_reason() {
        for text in ["", ".", "-1", "1e3", "1.2.3", "ten", "1 CVK"] {
            assert!(parse(text).is_err(), "{text}");
        }
        let refused = |text: &str, decimals| {
            let typed = parse(text).unwrap();
            unit(decimals).amount(&typed).unwrap_err().to_string()
        };
        assert_eq!(
            refused("0.1234567", 6),
            "CVK has 6 decimal places, the amount 0.1234567 has 7"
        );
        assert!(refused(&"9".repeat(40), 18).contains("more than can exist"));
    }

    #[test]
    fn amounts_are_shown_exactly_or_rounded_down() {
        let eighteen = unit(18);
        assert_eq!(eighteen.exact(tokens(10_000)), "10,000 CVK");
        assert_eq!(eighteen.number(Amount(1)), "0.000000000000000001");
        assert_eq!(eighteen.number(Amount(1_234 * ONE + ONE / 2)), "1,234.5");
        assert_eq!(eighteen.plain(Amount(1_234 * ONE + ONE / 2)), "1234.5");
        let amount = Amount(1_234_567 * ONE + ONE / 100 * 99 + 1);
        assert_eq!(eighteen.short(amount), "1,234,567.99");
        assert_eq!(eighteen.short(Amount(1)), "<0.01");
        assert_eq!(eighteen.short(Amount::ZERO), "0.00");
        assert_eq!(unit(0).short(Amount(1_234)), "1,234.00");
        assert_eq!(unit(1).short(Amount(15)), "1.50");
        assert_eq!(unit(6).number(Amount(1_500_000)), "1.5");
    }

    #[test]
    fn what_is_shown_exactly_reads_back() {
        for decimals in [0, 1, 6, 18, 38] {
            for amount in [0, 1, 99, ONE - 1, ONE, 123_456_789 * ONE + 42] {
                let shown = unit(decimals).number(Amount(amount));
                assert_eq!(read(&shown, decimals), amount, "{shown}");
            }
        }
    }

    #[test]
    fn a_symbol_is_made_fit_to_be_printed() {
        let symbol = |text: &str| Unit::token(text, 18).unwrap().symbol;
        assert_eq!(symbol("USD\u{1b}[31mC"), "USD31mC");
        assert_eq!(symbol("\n"), "tokens");
        assert_eq!(symbol(&"X".repeat(99)).len(), SYMBOL_CHARS_MAX);
        assert!(Unit::token("CVK", 39).is_err());
    }

    #[test]
    fn json_has_tokens_and_base_units() {
        let mut value = json!({ "task": 1 });
        unit(6).put(&mut value, "staked", Amount(1_500_000));
        assert_eq!(
            value,
            json!({ "task": 1, "staked": "1.5", "base_units": { "staked": "1500000" } })
        );
    }
}
