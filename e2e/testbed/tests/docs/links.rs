//! Every relative link of README.md, docs/ and the chart's README.md leads to a file, and to a heading of it.

use std::collections::BTreeSet;
use std::path::Path;

use testbed::document::{documents_for_users, in_repository, read};

/// The lines outside of blocks of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// The anchors that GitHub gives a text's headings.
/// <https://docs.github.com/en/get-started/writing-on-github/getting-started-with-writing-and-formatting-on-github/basic-writing-and-formatting-syntax#section-links>
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for line in prose(text).filter(|line| line.starts_with('#')) {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let kept = heading
            .chars()
            .filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
        let anchor = kept.collect::<String>().replace(' ', "-");
        let mut unique = anchor.clone();
        let mut count = 0;
        while !anchors.insert(unique.clone()) {
            count += 1;
            unique = format!("{anchor}-{count}");
        }
    }
    anchors
}

/// What stands in the parentheses of the links.
fn links(text: &str) -> Vec<String> {
    let text: String = prose(text).collect::<Vec<_>>().join("\n");
    let targets = text.split("](").skip(1);
    targets
        .filter_map(|rest| rest.split(')').next())
        .filter(|link| !link.contains("://"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut documents = documents_for_users().unwrap();
    documents.push("charts/kthena-bridge/README.md".to_owned());
    let mut broken = Vec::new();
    let mut followed = 0;
    for document in documents {
        let text = read(&document).unwrap();
        for link in links(&text) {
            followed += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let folder = Path::new(&document).parent().unwrap();
            let target = if path.is_empty() {
                document.clone()
            } else {
                folder.join(path).to_str().unwrap().to_owned()
            };
            if !in_repository(&target).exists() {
                broken.push(format!("{document}: {link}: there is no {target}"));
            } else if !anchor.is_empty() && !anchors(&read(&target).unwrap()).contains(anchor) {
                broken.push(format!("{document}: {link}: {target} has no such heading"));
            }
        }
    }
    assert_eq!(broken, Vec::<String>::new());
    assert!(followed >= 60, "{followed} links only");
}

#[test]
fn every_document_is_led_to_from_the_readme() {
    let readme = read("README.md").unwrap();
    for document in documents_for_users().unwrap() {
        let linked = document == "README.md" || readme.contains(&format!("]({document}"));
        assert!(linked, "{document}");
    }
}

#[test]
fn anchors_are_as_github_makes_them() {
    let text = "# The model's name in a header\n```console\n# no heading\n```\n## gie: v1.0\n## gie: v1.0\n";
    let expected = ["gie-v10", "gie-v10-1", "the-models-name-in-a-header"];
    assert_eq!(Vec::from_iter(anchors(text)), expected);
}
