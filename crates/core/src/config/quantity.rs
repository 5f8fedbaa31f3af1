//! Amounts of compute resources.
//! <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>

use std::borrow::Cow;
use std::fmt;

use kthena_bridge_api::text::quote;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Suffixes of powers of 1000 from a thousandth on, and of 1024.
const DECIMAL: [&str; 8] = ["m", "", "k", "M", "G", "T", "P", "E"];
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const PATTERN: &str = r"^[0-9]+(\.[0-9]{1,3})?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$";

/// An amount, such as `100m` or `128Mi`.
///
/// It is written as the API server writes it: what is written in another form would look like a change
/// that somebody else made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantity {
    thousandths: u128,
    binary: bool,
}

impl Quantity {
    /// Reads an amount.
    ///
    /// # Errors
    /// What is allowed, as a sentence about the text.
    pub fn new(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| {
            format!(
                "{} is not an amount of 0 or more, such as 500m, 2, 128Mi or 1.5Gi",
                quote(text)
            )
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let number = &text[..text.len() - unit.len()];
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        // More would not be an amount of anything, and might not fit.
        if !(1..=18).contains(&whole.len()) || !(1..=3).contains(&fraction.len()) {
            return None;
        }
        let whole: u128 = whole.parse().ok()?;
        let fraction: u128 = format!("{fraction:0<3}").parse().ok()?;
        let number = whole * 1_000 + fraction;
        let power = |suffixes: &[&str]| {
            let power = suffixes.iter().position(|suffix| *suffix == unit)?;
            u32::try_from(power).ok()
        };
        let (thousandths, binary) = if let Some(power) = power(&DECIMAL) {
            let millionths = number.checked_mul(1_000_u128.pow(power))?;
            // A part of a thousandth is no amount.
            let whole = millionths.is_multiple_of(1_000);
            (whole.then_some(millionths / 1_000)?, false)
        } else {
            (number.checked_mul(1_024_u128.pow(power(&BINARY)?))?, true)
        };
        // The API server holds no more.
        (thousandths <= u128::from(i64::MAX.unsigned_abs()) * 1_000).then_some(Self {
            thousandths,
            binary,
        })
    }

    /// Whether it is more than another one, however either is written.
    pub fn exceeds(self, other: Self) -> bool {
        self.thousandths > other.thousandths
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let highest = |mut number: u128, base: u128, suffixes: &[&'static str]| {
            let mut power = 0;
            while number > 0 && number.is_multiple_of(base) && power + 1 < suffixes.len() {
                number /= base;
                power += 1;
            }
            (number, suffixes[power])
        };
        let whole = self.thousandths / 1_000;
        let is_whole = self.thousandths.is_multiple_of(1_000);
        let (number, suffix) = if self.binary && is_whole && whole >= 1_024 {
            highest(whole, 1_024, &BINARY)
        } else {
            highest(self.thousandths, 1_000, &DECIMAL)
        };
        match (number, suffix) {
            (0, _) => f.write_str("0"),
            _ => write!(f, "{number}{suffix}"),
        }
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Amount;
        impl Visitor<'_> for Amount {
            type Value = Quantity;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount, such as 500m, 2 or 128Mi")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Quantity, E> {
                Quantity::new(text).map_err(E::custom)
            }
            // YAML takes 2 and 0.5 for numbers.
            fn visit_u64<E: Error>(self, number: u64) -> Result<Quantity, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Quantity, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_f64<E: Error>(self, number: f64) -> Result<Quantity, E> {
                self.visit_str(&number.to_string())
            }
        }
        deserializer.deserialize_any(Amount)
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["string", "number"], "pattern": PATTERN, "minimum": 0})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `resource.MustParse(...).String()` of k8s.io/apimachinery gives them.
    #[test]
    fn amounts_are_written_as_the_api_server_does() {
        let amounts = [
            ("0", "0"),
            ("0Mi", "0"),
            ("0.1", "100m"),
            ("1", "1"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("1.5", "1500m"),
            ("2000", "2k"),
            ("128Mi", "128Mi"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("1000Mi", "1000Mi"),
            ("0.5Ki", "512"),
            ("100M", "100M"),
            ("2048", "2048"),
            ("2Ki", "2Ki"),
            ("16Gi", "16Gi"),
            ("1.001Ki", "1025024m"),
        ];
        for (text, canonical) in amounts {
            assert_eq!(
                Quantity::new(text).unwrap().to_string(),
                canonical,
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in [
            "",
            "m",
            "1 Gi",
            "-1",
            "1GB",
            "1e3",
            ".5",
            "1.",
            "0.0001",
            "0.5m",
            "1.2345",
            "99999999999999999999",
        ] {
            assert!(Quantity::new(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn amounts_can_be_compared() {
        let of = |text| Quantity::new(text).unwrap();
        assert!(of("1Gi").exceeds(of("1G")));
        assert!(of("1").exceeds(of("100m")));
        assert!(!of("1024").exceeds(of("1Ki")) && !of("1Ki").exceeds(of("1024")));
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_as_the_same(number in 0_u64..10_000_000, suffix in 0_usize..15) {
            let suffixes: Vec<&str> = DECIMAL.into_iter().chain(BINARY).collect();
            if let Ok(amount) = Quantity::new(&format!("{number}{}", suffixes[suffix])) {
                let again = Quantity::new(&amount.to_string()).unwrap();
                proptest::prop_assert_eq!(again.to_string(), amount.to_string());
                proptest::prop_assert_eq!(again.thousandths, amount.thousandths);
            }
        }
    }
}
