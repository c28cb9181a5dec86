//! The trimmed share as an exact decimal, and how many entries of a tensor it leaves.
//!
//! `0.8` is not a binary fraction: `(1.0 - 0.8) * 10.0` is below 2, and one entry would go missing. So the share
//! is kept as the digits the user wrote, and counting is integer arithmetic.

use std::fmt;
use std::str::FromStr;

/// Supported digits after the point; more could not matter for any tensor.
const MAX_DIGITS: u32 = 18;

/// The share of a tensor's smallest entries that is set to zero, in [0, 1), as an exact decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Trim {
    /// The share is `numerator / 10^digits`, without trailing zeros.
    numerator: u64,
    digits: u32,
}

impl Trim {
    /// Nothing is trimmed.
    pub const NONE: Self = Self {
        numerator: 0,
        digits: 0,
    };

    /// Zero the smallest 80 %, keep 20 %.
    pub const DEFAULT: Self = Self {
        numerator: 8,
        digits: 1,
    };

    /// The trim that leaves `density`: 1 − density. `density` must lie in (0, 1].
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn from_density(density: &str) -> Result<Self, String> {
        let (numerator, digits) =
            decimal(density).ok_or_else(|| format!("density `{density}` is not a decimal number"))?;
        let whole = 10_u64.pow(digits);
        if numerator == 0 || numerator > whole {
            return Err(format!(
                "density {density} must be above 0 and at most 1 (the share that is kept)"
            ));
        }
        Ok(Self::reduced(whole - numerator, digits))
    }

    /// The trim whose shortest decimal text is that of `share`, as YAML and JSON readers return it.
    ///
    /// # Errors
    /// As [`Trim::from_str`].
    pub fn from_f64(share: f64) -> Result<Self, String> {
        share.to_string().parse()
    }

    /// Number of entries kept out of `entries`: max(1, n − ceil(trim·n)), and 0 of 0.
    pub fn kept(self, entries: usize) -> usize {
        let whole = 10_u128.pow(self.digits);
        let trimmed = (u128::from(self.numerator) * entries as u128).div_ceil(whole);
        // A share below one trims at most all entries, so the difference fits.
        let kept = entries - usize::try_from(trimmed).unwrap_or(entries);
        kept.max(1).min(entries)
    }

    /// The share that is kept, 1 − trim, as decimal text.
    pub fn density(self) -> String {
        text(10_u64.pow(self.digits) - self.numerator, self.digits)
    }

    /// Both readings of the number in words: "trim 0.8: zero the smallest 80 %, keep 20 %".
    pub fn describe(self) -> String {
        let percent = |numerator: u64| match self.digits {
            digits @ 0..=2 => text(numerator * 10_u64.pow(2 - digits), 0),
            digits => {
                let reduced = Self::reduced(numerator, digits - 2);
                text(reduced.numerator, reduced.digits)
            }
        };
        let kept = 10_u64.pow(self.digits) - self.numerator;
        format!(
            "trim {self}: zero the smallest {} %, keep {} %",
            percent(self.numerator),
            percent(kept)
        )
    }

    /// Drops trailing zeros, so that equal shares are equal values.
    fn reduced(mut numerator: u64, mut digits: u32) -> Self {
        while digits > 0 && numerator.is_multiple_of(10) {
            numerator /= 10;
            digits -= 1;
        }
        Self { numerator, digits }
    }
}

impl Default for Trim {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for Trim {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&text(self.numerator, self.digits))
    }
}

impl FromStr for Trim {
    type Err = String;

    fn from_str(share: &str) -> Result<Self, String> {
        let (numerator, digits) = decimal(share).ok_or_else(|| format!("trim `{share}` is not a decimal number"))?;
        if numerator >= 10_u64.pow(digits) {
            return Err(format!(
                "trim {share} must be at least 0 and below 1 (the share of smallest entries set to zero)"
            ));
        }
        Ok(Self::reduced(numerator, digits))
    }
}

/// `numerator / 10^digits` written out: `text(8, 1)` is "0.8".
fn text(numerator: u64, digits: u32) -> String {
    if digits == 0 {
        return numerator.to_string();
    }
    let whole = 10_u64.pow(digits);
    let width = digits as usize;
    format!("{}.{:0width$}", numerator / whole, numerator % whole)
}

/// Reads "0.8", ".8", "1", "8e-1" without rounding, as (numerator, digits); `None` if it is not such a number or
/// is out of range.
fn decimal(number: &str) -> Option<(u64, u32)> {
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (number, 0),
    };
    let mantissa = mantissa.strip_prefix('+').unwrap_or(mantissa);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let figures = format!("{whole}{fraction}");
    if figures.is_empty() || !figures.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let numerator: u128 = figures.parse().ok()?;
    let mut digits = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
    let mut numerator = numerator;
    while digits > 0 && numerator.is_multiple_of(10) {
        numerator /= 10;
        digits -= 1;
        if numerator == 0 {
            digits = 0;
        }
    }
    while digits < 0 {
        numerator = numerator.checked_mul(10)?;
        digits += 1;
        if numerator == 0 {
            digits = 0;
        }
    }
    let digits = u32::try_from(digits).ok().filter(|&digits| digits <= MAX_DIGITS)?;
    Some((u64::try_from(numerator).ok()?, digits))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail loudly")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counts_without_drift() {
        let trim: Trim = "0.8".parse().unwrap();
        assert_eq!(trim.kept(10), 2);
        assert_eq!(trim.kept(5), 1);
        assert_eq!(trim.kept(4), 1, "never fewer than one");
        assert_eq!(trim.kept(0), 0);
        assert_eq!(trim.kept(100_000_000_000), 20_000_000_000);
        // In binary floating point 0.29 * 100 is 28.999999999999996.
        assert_eq!(Trim::from_density("0.29").unwrap().kept(100), 29);
        assert_eq!("0".parse::<Trim>().unwrap().kept(7), 7);
    }

    #[test]
    fn reads_what_people_write() {
        for text in ["0.8", ".8", "0.80", "8e-1", "+0.8", "80E-2", "0.08e1"] {
            assert_eq!(text.parse::<Trim>(), Ok(Trim::DEFAULT), "{text}");
        }
        assert_eq!(Trim::from_f64(0.8), Ok(Trim::DEFAULT));
        assert_eq!(Trim::from_density("0.2"), Ok(Trim::DEFAULT));
        assert_eq!(Trim::from_density("1.0"), Ok(Trim::NONE));
        assert_eq!("0e99999".parse::<Trim>(), Ok(Trim::NONE));
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "1", "1.5", "-0.1", "", ".", "NaN", "inf", "0,8", "0.8%", "1e400", "0x1", "1e-99",
        ] {
            assert!(text.parse::<Trim>().is_err(), "{text}");
        }
        for text in ["0", "1.5", "-1"] {
            assert!(Trim::from_density(text).is_err(), "{text}");
        }
        assert!(Trim::from_f64(f64::NAN).is_err());
    }

    #[test]
    fn says_both_readings() {
        assert_eq!(Trim::DEFAULT.describe(), "trim 0.8: zero the smallest 80 %, keep 20 %");
        assert_eq!(
            "0.875".parse::<Trim>().unwrap().describe(),
            "trim 0.875: zero the smallest 87.5 %, keep 12.5 %"
        );
        assert_eq!(Trim::NONE.describe(), "trim 0: zero the smallest 0 %, keep 100 %");
        assert_eq!(Trim::DEFAULT.density(), "0.2");
    }

    proptest! {
        #[test]
        fn density_is_the_complement(numerator in 0_u64..1000, entries in 0_usize..100_000) {
            let trim: Trim = format!("0.{numerator:03}").parse().unwrap();
            prop_assert_eq!(Trim::from_density(&trim.density()), Ok(trim));
            let kept = trim.kept(entries);
            let exact = (1000 - numerator as usize) * entries / 1000;
            prop_assert_eq!(kept, exact.max(1).min(entries));
            prop_assert_eq!(trim.to_string().parse(), Ok(trim));
        }

        #[test]
        fn never_panics(text in ".{0,40}") {
            let _ = text.parse::<Trim>();
            let _ = Trim::from_density(&text);
        }
    }
}
