//! `docs/operations.md` names every alert of the chart. The metrics are compared where they are registered.

use testbed::document::read;

#[test]
fn every_alert_is_named() {
    let rule = read("charts/kthena-bridge/templates/prometheus-rule.yaml").unwrap();
    let alerts: Vec<&str> = rule
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(alerts.len() >= 6, "{alerts:?}");
    let text = read("docs/operations.md").unwrap();
    for alert in &alerts {
        assert!(text.contains(&format!("`{alert}`")), "{alert}");
    }
    assert_eq!(text.matches("`KthenaBridge").count(), alerts.len());
}
