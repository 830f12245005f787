//! `tidings cardsavr user`: an entry for the configuration, in which a password's hash stands.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::Path;

use tidings_adapter_cardsavr::{Role, hash_password};

use super::{RoleName, UserArgs};
use crate::app::AppError;
use crate::cli::client::ClientError;

/// Bytes of a password: nobody types more, and a wrong file is not read to its end.
const PASSWORD_BYTES_MAX: u64 = 4 * 1024;

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Admin => Self::Admin,
            RoleName::CustomerAgent => Self::CustomerAgent,
            RoleName::CardholderAgent => Self::CardholderAgent,
            RoleName::VirtualBrowser => Self::VirtualBrowser,
        }
    }
}

/// Prints the entry.
///
/// # Errors
/// A password that cannot be read, or is none.
pub(super) fn run(args: &UserArgs) -> Result<(), AppError> {
    let password = match &args.password_file {
        Some(path) => from_file(path)?,
        None => from_standard_input()?,
    };
    write!(std::io::stdout(), "{}", entry(args, &password))?;
    Ok(())
}

/// The password in a file.
///
/// # Errors
/// [`ClientError::Usage`].
pub(super) fn from_file(path: &Path) -> Result<String, ClientError> {
    let wrong = |why: String| ClientError::Usage(format!("{}: {why}", path.display()));
    let file = std::fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
    first_line(std::io::BufReader::new(file)).map_err(wrong)
}

fn from_standard_input() -> Result<String, AppError> {
    let input = std::io::stdin().lock();
    if input.is_terminal() {
        write!(std::io::stderr(), "password (it is shown): ")?;
    }
    let read = first_line(input).map_err(|why| format!("standard input: {why}"));
    Ok(read.map_err(ClientError::Usage)?)
}

fn first_line(input: impl std::io::BufRead) -> Result<String, String> {
    let mut line = String::new();
    let mut input = std::io::Read::take(input, PASSWORD_BYTES_MAX);
    input
        .read_line(&mut line)
        .map_err(|error| error.to_string())?;
    match line.trim_end_matches(['\r', '\n']) {
        "" => Err("no password in its first line".to_owned()),
        password => Ok(password.to_owned()),
    }
}

fn entry(args: &UserArgs, password: &str) -> String {
    let UserArgs {
        id,
        username,
        role,
        parent,
        ..
    } = args;
    let bare = !username.is_empty() && username.bytes().all(is_bare);
    let table = match bare {
        true => username.clone(),
        false => toml::Value::from(username.as_str()).to_string(),
    };
    let role = Role::from(*role).as_str();
    let key = hash_password(username, password);
    let parent = parent.map_or(String::new(), |parent| format!("parent = {parent}\n"));
    format!(
        "[adapters.cardsavr.users.{table}]\nid = {id}\nrole = \"{role}\"\npassword_key = \"{key}\"\n{parent}"
    )
}

/// What a key of TOML may have without quotes.
fn is_bare(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(username: &str, parent: Option<u64>) -> UserArgs {
        UserArgs {
            id: 11,
            username: username.to_owned(),
            role: RoleName::CardholderAgent,
            parent,
            password_file: None,
        }
    }

    #[test]
    fn the_entry_is_what_the_adapter_reads() {
        let expected = "[adapters.cardsavr.users.agent1]\nid = 11\nrole = \"cardholder_agent\"\n\
             password_key = \"ZyktYWyGXo3GSfuLaJtWRMEZ0I/C2oXzaCXLii7MVy0=\"\nparent = 10\n";
        assert_eq!(entry(&args("agent1", Some(10)), "pw-agent1"), expected);
        for odd in ["a.b", "a b", "a\"b", "ä", ""] {
            let text = entry(&args(odd, None), "x");
            let file: toml::Table = toml::from_str(&text).expect(odd);
            let users = file["adapters"]["cardsavr"]["users"].as_table();
            assert!(users.is_some_and(|users| users.contains_key(odd)), "{text}");
        }
    }

    #[test]
    fn a_password_is_a_line() {
        let table = [
            ("secret\n", Ok("secret")),
            ("secret", Ok("secret")),
            ("two words \r\nmore", Ok("two words ")),
            ("\nsecret", Err(())),
            ("", Err(())),
        ];
        for (text, expected) in table {
            let found = first_line(text.as_bytes()).map_err(drop);
            assert_eq!(found, expected.map(str::to_owned), "{text:?}");
        }
    }
}
