//! Memory errors: the driver counts them, and reports some of them unasked.

/// The memory errors of one kind. The driver's counter is the truth; a report says only that it
/// is worth a look, and counts itself where there is no counter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ErrorCount {
    /// The driver's counter at the last answer.
    counted: Option<u64>,
    /// Reports since the last answer.
    reported: u64,
}

/// What an answer says of the errors since the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Growth {
    /// Errors since.
    pub(super) new: u64,
    /// Whether the counter has begun anew.
    pub(super) fell: bool,
}

impl ErrorCount {
    /// Takes note of a report; whether it is the first since the last answer.
    pub(super) fn report(&mut self) -> bool {
        self.reported = self.reported.saturating_add(1);
        self.reported == 1
    }

    /// Takes note of the counter, `None` where there is none.
    pub(super) fn answer(&mut self, counter: Option<u64>) -> Growth {
        let reported = std::mem::take(&mut self.reported);
        let Some(count) = counter else {
            let new = reported;
            return Growth { new, fell: false };
        };
        match self.counted.replace(count) {
            // What was reported before the first answer is part of its count.
            None => Growth {
                new: reported.min(count),
                fell: false,
            },
            Some(before) => Growth {
                new: count.checked_sub(before).unwrap_or(count),
                fell: count < before,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grown(new: u64) -> Growth {
        Growth { new, fell: false }
    }

    #[test]
    fn what_is_reported_and_counted_is_one_error() {
        let mut errors = ErrorCount::default();
        assert_eq!(errors.answer(Some(7)), grown(0), "where we begin");
        assert!(errors.report());
        assert!(!errors.report(), "the question is on its way");
        assert_eq!(errors.answer(Some(9)), grown(2));
        // The counter was read before the report came.
        assert_eq!(errors.answer(Some(10)), grown(1));
        errors.report();
        assert_eq!(errors.answer(Some(10)), grown(0));
    }

    #[test]
    fn a_report_before_the_first_answer_counts() {
        let mut errors = ErrorCount::default();
        errors.report();
        assert_eq!(errors.answer(Some(5)), grown(1));
    }

    #[test]
    fn without_a_counter_the_reports_count() {
        let mut errors = ErrorCount::default();
        errors.report();
        errors.report();
        assert_eq!(errors.answer(None), grown(2));
        assert_eq!(errors.answer(None), grown(0));
    }

    #[test]
    fn a_counter_that_fell_has_begun_anew_and_counts_from_zero() {
        let mut errors = ErrorCount::default();
        errors.answer(Some(5));
        let growth = errors.answer(Some(2));
        assert_eq!(growth, Growth { new: 2, fell: true });
    }
}
