//! The tests that lie in the chart, `tests/*_test.yaml`: which value changes which field.

use testbed::tool;

use crate::chart;

#[tokio::test]
async fn the_tests_of_the_chart_pass() {
    let said = tool("helm-unittest", &["--strict", &chart()])
        .await
        .unwrap();
    let passed = |what: &str| {
        let line = said.lines().find(|line| line.starts_with(what));
        let line = line.unwrap_or_else(|| panic!("{said}"));
        assert!(
            line.contains("passed") && !line.contains("failed"),
            "{said}"
        );
    };
    passed("Test Suites:");
    passed("Tests:");
}
