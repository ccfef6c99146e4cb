//! Passwords of encrypted key files: from a file, from the environment, or typed at a terminal
//! that does not show them. Never from the command line, where every process could read them.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use console::Term;
use zeroize::Zeroizing;

use crate::failure::{HintExt as _, usage};

/// Holds a password; an argument would show it to every process of the machine.
pub(crate) const PASSWORD_VARIABLE: &str = "CONVOKE_PASSWORD";
/// What to do where nobody can be asked.
const HINT: &str =
    "give --password-file FILE, set CONVOKE_PASSWORD, or run this at a terminal to be asked";

/// Where the password of an encrypted key file comes from.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct PasswordArgs {
    /// File with the password of an encrypted key file [default: CONVOKE_PASSWORD, or asked for]
    #[arg(long, value_name = "FILE", env = "CONVOKE_PASSWORD_FILE")]
    password_file: Option<PathBuf>,
}

impl PasswordArgs {
    /// A password in a file, or asked for.
    pub(crate) fn in_file(password_file: Option<PathBuf>) -> Self {
        Self { password_file }
    }

    /// The password of a file that exists; `what` says which.
    pub(crate) fn of(&self, what: &str) -> anyhow::Result<Zeroizing<String>> {
        match self.given()? {
            Some(password) => Ok(password),
            None => ask(&format!("Password of {what}: ")),
        }
    }

    /// The password of a new file, typed twice.
    pub(crate) fn new_one(&self, what: &str) -> anyhow::Result<Zeroizing<String>> {
        let password = match self.given()? {
            Some(password) => password,
            None => {
                let password = ask(&format!("New password of {what}: "))?;
                if *password != *ask("The same again: ")? {
                    return Err(usage("the two passwords are not the same"));
                }
                password
            }
        };
        if password.is_empty() {
            return Err(usage("the password is empty"))
                .hint("`--plain` makes a key file without a password, for throwaway keys");
        }
        Ok(password)
    }

    fn given(&self) -> anyhow::Result<Option<Zeroizing<String>>> {
        if let Some(file) = &self.password_file {
            let text = super::read_private(file, "password file")?;
            // Editors end the last line; a password has no line ends.
            let line = text.trim_end_matches(['\r', '\n']);
            return Ok(Some(Zeroizing::new(line.to_owned())));
        }
        Ok(std::env::var(PASSWORD_VARIABLE).ok().map(Zeroizing::new))
    }
}

/// Asks at the terminal, without showing what is typed.
pub(crate) fn ask(prompt: &str) -> anyhow::Result<Zeroizing<String>> {
    let terminal = Term::stderr();
    if !terminal.is_term() || !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        let wanted = prompt.trim_end_matches([':', ' ']).to_lowercase();
        return Err(usage(format!(
            "there is no terminal to ask for the {wanted}"
        )))
        .hint(HINT);
    }
    terminal
        .write_str(prompt)
        .and_then(|()| terminal.read_secure_line())
        .map(Zeroizing::new)
        .context("cannot read from the terminal")
}
