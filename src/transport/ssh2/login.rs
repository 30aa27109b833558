//! Logging in: the ssh agent, key files, a password.

use std::{
    env,
    path::{Path, PathBuf},
};

use ssh2::Error;

use crate::{
    base::{Fault, Secret},
    model::inventory::Host,
    transport::{Settings, ssh2::wire::Wire, unreachable},
};

/// Key files that are tried when none is named.
const USUAL_KEYS: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];

/// Logs in, by whatever the server and the operator have in common.
pub(super) async fn login(wire: &mut Wire, host: &Host, settings: &Settings, address: &str) -> Result<(), Fault> {
    let user = match &host.connection.user {
        Some(user) => user.clone(),
        None => env::var("USER").or_else(|_| env::var("LOGNAME")).unwrap_or_else(|_| "root".to_owned()),
    };
    let methods = methods(wire, &user, address).await?;
    let mut tried = Vec::new();
    if wire.session().authenticated() {
        return Ok(());
    }
    if methods.iter().any(|method| method == "publickey") && keys(wire, host, settings, &user, &mut tried).await {
        return Ok(());
    }
    if password(wire, host, settings, &user, address, &methods, &mut tried).await {
        return Ok(());
    }
    let tried = if tried.is_empty() { "nothing could be tried".to_owned() } else { tried.join("; ") };
    Err(unreachable(format!("{user}@{address} did not let us in"))
        .hint(format!("tried: {tried}"))
        .hint(format!("the server takes: {}", methods.join(", "))))
}

/// What the server takes. It may let in without anything.
async fn methods(wire: &Wire, user: &str, address: &str) -> Result<Vec<String>, Fault> {
    let session = wire.session();
    let found = wire.wait_for(|| session.auth_methods(user).map(str::to_owned)).await;
    match found {
        Ok(methods) => Ok(methods.split(',').map(str::to_owned).collect()),
        Err(_) if session.authenticated() => Ok(Vec::new()),
        Err(error) => Err(unreachable(format!("{address} broke off the login")).because(&error)),
    }
}

/// Tries the agent's keys, then key files.
async fn keys(wire: &Wire, host: &Host, settings: &Settings, user: &str, tried: &mut Vec<String>) -> bool {
    // A key that the inventory names is meant: it goes before what the agent happens to hold.
    if let Some(path) = &host.connection.key_file {
        return key_file(wire, settings, user, &super::expand_home(path), tried).await;
    }
    if agent(wire, user, tried).await {
        return true;
    }
    let folder = env::var_os("HOME").map(PathBuf::from).unwrap_or_default().join(".ssh");
    for path in USUAL_KEYS.map(|name| folder.join(name)) {
        if path.exists() && key_file(wire, settings, user, &path, tried).await {
            return true;
        }
    }
    false
}

async fn agent(wire: &Wire, user: &str, tried: &mut Vec<String>) -> bool {
    if env::var_os("SSH_AUTH_SOCK").is_none() {
        return false;
    }
    let session = wire.session();
    let listed = session.agent().and_then(|mut agent| {
        agent.connect()?;
        agent.list_identities()?;
        let identities = agent.identities()?;
        Ok((agent, identities))
    });
    let (agent, identities) = match listed {
        Ok(listed) => listed,
        Err(error) => {
            tried.push(format!("the ssh agent ({})", error.message()));
            return false;
        }
    };
    for identity in &identities {
        if wire.wait_for(|| agent.userauth(user, identity)).await.is_ok() {
            return true;
        }
        tried.push(format!("the agent's key {}", identity.comment()));
    }
    false
}

async fn key_file(wire: &Wire, settings: &Settings, user: &str, path: &Path, tried: &mut Vec<String>) -> bool {
    let passphrase = match is_encrypted(path) {
        Ok(false) => None,
        Ok(true) => match settings.asker.ask(&format!("Passphrase for the key {}", path.display())) {
            Some(passphrase) => Some(passphrase),
            None => {
                tried.push(format!("the key {} (it has a passphrase, and nobody could be asked)", path.display()));
                return false;
            }
        },
        Err(error) => {
            tried.push(format!("the key {} (cannot be read: {error})", path.display()));
            return false;
        }
    };
    match wire.key_file(user, path, passphrase.as_ref().map(Secret::expose)).await {
        Ok(()) => true,
        Err(error) => {
            tried.push(format!("the key {} ({})", path.display(), error.message()));
            false
        }
    }
}

/// Whether a private key has a passphrase.
fn is_encrypted(path: &Path) -> Result<bool, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    match ssh_key::PrivateKey::from_openssh(&text) {
        Ok(key) => Ok(key.is_encrypted()),
        Err(_) => Ok(text.contains("ENCRYPTED")),
    }
}

async fn password(
    wire: &Wire,
    host: &Host,
    settings: &Settings,
    user: &str,
    address: &str,
    methods: &[String],
    tried: &mut Vec<String>,
) -> bool {
    let plain = methods.iter().any(|method| method == "password");
    let interactive = methods.iter().any(|method| method == "keyboard-interactive");
    if !plain && !interactive {
        return false;
    }
    let asked = || settings.asker.ask(&format!("Password for {user}@{address}"));
    let Some(password) = host.connection.password.clone().or_else(asked) else {
        tried.push("no password (nobody could be asked; ROLLBOOK_PASSWORD is not set)".to_owned());
        return false;
    };
    let session = wire.session();
    let logged_in: Result<(), Error> = if plain {
        wire.wait_for(|| session.userauth_password(user, password.expose())).await
    } else {
        let mut answers = Answers(&password);
        wire.wait_for(|| session.userauth_keyboard_interactive(user, &mut answers)).await
    };
    match logged_in {
        Ok(()) => true,
        Err(error) => {
            tried.push(format!("the password ({})", error.message()));
            false
        }
    }
}

/// Answers each hidden question with the password.
struct Answers<'a>(&'a Secret);

impl ssh2::KeyboardInteractivePrompt for Answers<'_> {
    fn prompt<'b>(&mut self, _user: &str, _how: &str, prompts: &[ssh2::Prompt<'b>]) -> Vec<String> {
        prompts.iter().map(|prompt| if prompt.echo { String::new() } else { self.0.expose().to_owned() }).collect()
    }
}
