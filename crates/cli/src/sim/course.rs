//! A value over time, as people type it: `80`, `0..90/30s`, `20~80/10s`.

use std::str::FromStr;
use std::time::Duration;

use mizzen_nvml_sim::Program;

use crate::duration;

/// A value over time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Course {
    /// Always the same.
    Constant(f64),
    /// In a straight line from one value to another, which then stays.
    Ramp(f64, f64, Duration),
    /// Up and down between two values.
    Wave(f64, f64, Duration),
}

impl From<Course> for Program {
    fn from(course: Course) -> Self {
        match course {
            Course::Constant(value) => Self::Constant(value),
            Course::Ramp(from, to, over) => Self::Ramp { from, to, over },
            Course::Wave(low, high, period) => Self::Wave { low, high, period },
        }
    }
}

/// Why a text is no course.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no value over time: write 80, or 0..90/30s to rise within 30 s, or 20~80/10s to swing with a period of 10 s"
)]
pub(crate) struct InvalidCourse(String);

impl FromStr for Course {
    type Err = InvalidCourse;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| InvalidCourse(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Course> {
    let Some((values, time)) = text.split_once('/') else {
        return number(text).map(Course::Constant);
    };
    let time = duration::parse(time).ok().filter(|time| !time.is_zero())?;
    if let Some((from, to)) = values.split_once("..") {
        return Some(Course::Ramp(number(from)?, number(to)?, time));
    }
    let (low, high) = values.split_once('~')?;
    Some(Course::Wave(number(low)?, number(high)?, time))
}

fn number(text: &str) -> Option<f64> {
    text.parse()
        .ok()
        .filter(|number: &f64| number.is_finite() && *number >= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_course_is_a_number_a_ramp_or_a_wave() {
        let seconds = Duration::from_secs;
        assert_eq!("80".parse(), Ok(Course::Constant(80.0)));
        assert_eq!(
            "0..90/30s".parse(),
            Ok(Course::Ramp(0.0, 90.0, seconds(30)))
        );
        assert_eq!(
            "20.5~80/1m".parse(),
            Ok(Course::Wave(20.5, 80.0, seconds(60)))
        );
    }

    #[test]
    fn what_is_no_course_is_refused_with_examples() {
        for text in [
            "", "x", "-1", "nan", "inf", "0..90", "0..90/0s", "0-90/3s", "5/3s",
        ] {
            let error = text.parse::<Course>().unwrap_err().to_string();
            assert!(error.contains("0..90/30s"), "{text}: {error}");
        }
    }
}
