//! A shell in which commands are run as a user would: one after the other, with what the one before has left.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::TestBed;
use crate::error::{Context as _, Error, Result};

/// How long a command may take.
const LIMIT: Duration = Duration::from_mins(2);
/// Stands in the line behind a command's output, before its exit code.
const END: &str = "-- the command ended with ";

/// A bash of a user with all rights on the bed, and with kubectl, helm and kthena-bridge in the `PATH`.
pub struct Shell {
    _process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    script: PathBuf,
}

/// What a command printed, on both of its outputs.
#[derive(Debug)]
pub struct Printed {
    /// Its exit code.
    pub code: i32,
    /// What it wrote.
    pub output: String,
}

impl TestBed {
    /// A shell in this folder, for a user with this home folder and kubeconfig.
    pub async fn shell(&self, folder: &Path, home: &Path, kubeconfig: &Path) -> Result<Shell> {
        let path = std::env::var("PATH").unwrap_or_default();
        let binaries = crate::built_binaries()?;
        let path = format!(
            "{}:{}:{}:{path}",
            home.join(".local/bin").display(),
            binaries.display(),
            self.parts().join("bin").display()
        );
        let mut process = Command::new("bash")
            .args(["--noprofile", "--norc"])
            .current_dir(folder)
            .env("PATH", path)
            .env("HOME", home)
            .env("KUBECONFIG", kubeconfig)
            .env("EDITOR", "true")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context(|| "starting bash".to_owned())?;
        let missing = || Error::Other("bash has no input or output".to_owned());
        let mut input = process.stdin.take().ok_or_else(missing)?;
        let output = process.stdout.take().ok_or_else(missing)?;
        let begin = b"exec 2>&1; set -o pipefail\n";
        input
            .write_all(begin)
            .await
            .context(|| "writing to bash".to_owned())?;
        Ok(Shell {
            _process: process,
            input,
            output: BufReader::new(output).lines(),
            script: home.join("command"),
        })
    }
}

impl Shell {
    /// Runs a command, which may set variables for those that follow.
    ///
    /// # Errors
    /// When it does not end in time, with what it said until then, or ends the shell.
    pub async fn run(&mut self, command: &str) -> Result<Printed> {
        let what = || format!("running {command}");
        std::fs::write(&self.script, command).context(what)?;
        let line = format!(
            "source '{}' </dev/null; printf '\\n{END}%d\\n' $?\n",
            self.script.display()
        );
        self.input.write_all(line.as_bytes()).await.context(what)?;
        let mut output = String::new();
        let read = async {
            loop {
                let Some(line) = self.output.next_line().await.context(what)? else {
                    return Err(Error::Other("it ended the shell".to_owned()));
                };
                if let Some(code) = line.strip_prefix(END) {
                    return code
                        .parse()
                        .map_err(|_| Error::Other(format!("{code} is no exit code")));
                }
                output.push_str(&line);
                output.push('\n');
            }
        };
        let ended = tokio::time::timeout(LIMIT, read).await;
        let code: i32 = ended
            .unwrap_or_else(|_| Err(Error::Other(format!("not ended after {LIMIT:?}"))))
            .map_err(|e| Error::Other(format!("{command}\n{e}\n{output}")))?;
        // The line break before the mark is not the command's.
        if output.ends_with("\n\n") || output == "\n" {
            output.pop();
        }
        Ok(Printed { code, output })
    }
}
