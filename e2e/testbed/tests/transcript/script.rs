//! The commands of a block, and what it shows of their output.

/// A command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Command {
    /// As it is typed.
    pub(crate) line: String,
    /// What it says, where that is shown.
    pub(crate) output: Option<String>,
}

/// The commands of a block: a line each, or one that begins with `$ ` and what it says below.
pub(crate) fn commands(text: &str) -> Vec<Command> {
    let shows = text.starts_with("$ ");
    let mut commands: Vec<Command> = Vec::new();
    let mut continues = false;
    for line in text.lines().filter(|line| shows || !line.is_empty()) {
        let typed = if shows {
            line.strip_prefix("$ ")
        } else {
            Some(line)
        };
        match (typed, commands.last_mut()) {
            (_, Some(last)) if continues => {
                last.line.push('\n');
                last.line.push_str(line);
            }
            (Some(typed), _) => commands.push(Command {
                line: typed.to_owned(),
                output: shows.then(String::new),
            }),
            (
                None,
                Some(Command {
                    output: Some(output),
                    ..
                }),
            ) => {
                output.push_str(line);
                output.push('\n');
            }
            (None, _) => {}
        }
        continues = (typed.is_some() || continues) && line.ends_with('\\');
    }
    commands
}

/// Whether an output is as it is shown: line by line, with `…` for anything.
pub(crate) fn is_as_shown(shown: &str, output: &str) -> bool {
    let (shown, output) = (shown.trim_end(), output.trim_end());
    let matches = |(shown, line): (&str, &str)| {
        let mut rest = line.trim_end();
        let mut parts = shown.trim_end().split('…');
        let Some(first) = parts.next() else {
            return false;
        };
        let Some(after) = rest.strip_prefix(first) else {
            return false;
        };
        rest = after;
        for part in parts {
            let Some(at) = rest.rfind(part) else {
                return false;
            };
            rest = &rest[at + part.len()..];
        }
        rest.is_empty()
    };
    shown.lines().count() == output.lines().count()
        && shown.lines().zip(output.lines()).all(matches)
}

#[test]
fn a_block_without_prompts_is_commands() {
    let typed = |line: &str| Command {
        line: line.to_owned(),
        output: None,
    };
    assert_eq!(
        commands("a 1\n\nb \\\n  2\nc\n"),
        [typed("a 1"), typed("b \\\n  2"), typed("c")]
    );
}

#[test]
fn a_block_with_prompts_shows_what_is_said() {
    let shown = |line: &str, output: &str| Command {
        line: line.to_owned(),
        output: Some(output.to_owned()),
    };
    let block = "$ a\nb\n\nc\n$ d\n";
    assert_eq!(commands(block), [shown("a", "b\n\nc\n"), shown("d", "")]);
}

#[test]
fn an_ellipsis_stands_for_anything() {
    assert!(is_as_shown("a … c\n", "a bb c\n"));
    assert!(is_as_shown("a…\n", "a\n"));
    assert!(!is_as_shown("a\n", "a\nb\n"));
    assert!(!is_as_shown("a … c\n", "a bb d\n"));
    assert!(!is_as_shown("a\n", "ab\n"));
}
