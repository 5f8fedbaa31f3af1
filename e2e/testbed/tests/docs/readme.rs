//! README.md is short.

use testbed::document::{blocks, read};

/// Of everything in it, code and tables included.
const WORDS: usize = 700;

#[test]
fn it_has_at_most_700_words() {
    let words = read("README.md").unwrap().split_whitespace().count();
    assert!(words <= WORDS, "{words} words");
}

#[test]
fn the_quick_start_has_three_commands() {
    let text = read("README.md").unwrap();
    let (_, section) = text.split_once("\n## Quick start\n").unwrap();
    let first = blocks(section).into_iter().next().unwrap();
    assert_eq!(first.text.lines().count(), 3, "{}", first.text);
}
