//! What the tests share: a fake driver, host trees, scenarios.
