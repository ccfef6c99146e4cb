//! The adversaries by name.

mod forger;
mod free_rider;
mod noise;
mod not_a_number;
mod replayer;
mod sign_flipper;

use std::fmt;
use std::str::FromStr;

use convoke_protocol::ids::RoundId;

pub use self::forger::Forger;
pub use self::free_rider::FreeRider;
pub use self::noise::Noise;
pub use self::not_a_number::NotANumber;
pub use self::replayer::Replayer;
pub use self::sign_flipper::SignFlipper;

/// Turns an honest delta into what is sent.
pub trait Adversary: Send {
    /// Changes the flat delta of a round in place.
    fn corrupt(&mut self, round: RoundId, delta: &mut [f32]);

    /// Whether it signs a sketch in this round that is not the delta's.
    fn forges_sketch(&self, _round: RoundId) -> bool {
        false
    }
}

/// What a trainer is in a demonstration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Persona {
    /// Sends what it trained.
    Honest,
    /// Sends the opposite of what it trained.
    SignFlipper,
    /// Sends Gaussian noise as long as what it trained.
    Noise,
    /// Sends next to nothing.
    FreeRider,
    /// Sends its first delta again and again.
    Replayer,
    /// Sends values that are no numbers.
    NotANumber,
    /// Sends what it trained, and signs another's sketch for it.
    Forger,
}

/// A name that no adversary has, or a list that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PersonaError {
    /// No such adversary.
    #[error(
        "there is no adversary {0:?}; known are sign_flipper, noise, free_rider, replayer, not_a_number, forger"
    )]
    Unknown(String),
    /// Not NAME=COUNT.
    #[error("{0:?} is not NAME=COUNT, for example sign_flipper=1")]
    Syntax(String),
    /// The same name twice.
    #[error("{0} is listed twice")]
    Twice(Persona),
}

impl Persona {
    /// All adversaries.
    pub const ADVERSARIES: [Self; 6] = [
        Self::SignFlipper,
        Self::Noise,
        Self::FreeRider,
        Self::Replayer,
        Self::NotANumber,
        Self::Forger,
    ];

    /// The name, as options and reports have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Honest => "honest",
            Self::SignFlipper => "sign_flipper",
            Self::Noise => "noise",
            Self::FreeRider => "free_rider",
            Self::Replayer => "replayer",
            Self::NotANumber => "not_a_number",
            Self::Forger => "forger",
        }
    }

    /// The adversary; `None` for the honest. Randomness comes from the seed.
    #[must_use]
    pub fn adversary(self, seed: u64) -> Option<Box<dyn Adversary>> {
        match self {
            Self::Honest => None,
            Self::SignFlipper => Some(Box::new(SignFlipper)),
            Self::Noise => Some(Box::new(Noise::seeded(seed))),
            Self::FreeRider => Some(Box::new(FreeRider)),
            Self::Replayer => Some(Box::new(Replayer::default())),
            Self::NotANumber => Some(Box::new(NotANumber)),
            Self::Forger => Some(Box::new(Forger)),
        }
    }

    /// Reads a list such as `sign_flipper=1,noise=1`; an empty text is an empty list.
    ///
    /// # Errors
    /// [`PersonaError`].
    pub fn parse_list(text: &str) -> Result<Vec<(Self, usize)>, PersonaError> {
        let mut list: Vec<(Self, usize)> = Vec::new();
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let (name, count) = part
                .split_once('=')
                .ok_or_else(|| PersonaError::Syntax(part.to_owned()))?;
            let persona: Self = name.trim().parse()?;
            let count = count
                .trim()
                .parse()
                .map_err(|_| PersonaError::Syntax(part.to_owned()))?;
            if list.iter().any(|(listed, _)| *listed == persona) {
                return Err(PersonaError::Twice(persona));
            }
            list.push((persona, count));
        }
        Ok(list)
    }
}

impl FromStr for Persona {
    type Err = PersonaError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ADVERSARIES
            .into_iter()
            .find(|persona| persona.name() == name);
        found.ok_or_else(|| PersonaError::Unknown(name.to_owned()))
    }
}

impl fmt::Display for Persona {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Euclidean norm of a flat delta.
fn norm(delta: &[f32]) -> f64 {
    delta
        .iter()
        .map(|value| f64::from(*value).powi(2))
        .sum::<f64>()
        .sqrt()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn corrupted(persona: Persona, round: u32) -> Vec<f32> {
        let mut delta = vec![1.0, -2.0, 3.0, 0.5];
        persona
            .adversary(7)
            .unwrap()
            .corrupt(RoundId(round), &mut delta);
        delta
    }

    #[test]
    fn lists_are_read_and_mistakes_are_named() {
        let list = Persona::parse_list("sign_flipper=1, noise=2").unwrap();
        assert_eq!(list, [(Persona::SignFlipper, 1), (Persona::Noise, 2)]);
        assert_eq!(Persona::parse_list(""), Ok(Vec::new()));
        assert!(matches!(
            Persona::parse_list("liar=1"),
            Err(PersonaError::Unknown(_))
        ));
        assert!(matches!(
            Persona::parse_list("noise"),
            Err(PersonaError::Syntax(_))
        ));
        assert!(matches!(
            Persona::parse_list("noise=x"),
            Err(PersonaError::Syntax(_))
        ));
        assert!(matches!(
            Persona::parse_list("noise=1,noise=1"),
            Err(PersonaError::Twice(_))
        ));
    }

    #[test]
    fn each_does_what_its_name_says() {
        assert_eq!(corrupted(Persona::SignFlipper, 1), [-1.0, 2.0, -3.0, -0.5]);
        let noise = corrupted(Persona::Noise, 1);
        assert!((norm(&noise) - norm(&[1.0, -2.0, 3.0, 0.5])).abs() < 1e-5);
        assert_ne!(noise, corrupted(Persona::Noise, 2));
        assert_eq!(noise, corrupted(Persona::Noise, 1));
        assert!(norm(&corrupted(Persona::FreeRider, 1)) < 1e-4);
        assert!(
            corrupted(Persona::NotANumber, 1)
                .iter()
                .any(|value| value.is_nan())
        );
        assert_eq!(corrupted(Persona::Forger, 1), [1.0, -2.0, 3.0, 0.5]);
        let forges = |persona: Persona| persona.adversary(7).unwrap().forges_sketch(RoundId(1));
        assert!(forges(Persona::Forger) && !forges(Persona::Noise));
        let mut replayer = Persona::Replayer.adversary(7).unwrap();
        let (mut first, mut second) = (vec![1.0, 2.0], vec![3.0, 4.0]);
        replayer.corrupt(RoundId(1), &mut first);
        replayer.corrupt(RoundId(2), &mut second);
        assert_eq!((first, second), (vec![1.0, 2.0], vec![1.0, 2.0]));
    }
}
