//! Logging in: the ssh agent, key files, a password.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use ssh2::{Agent, Error, PublicKey};
use tokio::time::Instant;

use crate::{
    base::{Fault, Secret},
    model::inventory::Host,
    transport::{
        ASK_PASSPHRASE, ASK_PASSWORD, Asker, Settings, aside,
        ssh2::wire::{Trouble, Wire},
        unreachable,
    },
};

/// Key files that are tried when none is named.
const USUAL_KEYS: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];

/// The most keys of an ssh agent that are tried: sshd hangs up after six attempts (`MaxAuthTries`), and a key file and
/// a password may have to follow.
const AGENT_KEYS_MAX: usize = 4;

/// Logs in, by whatever the server and the operator have in common.
pub(super) async fn login(
    wire: &mut Wire,
    host: &Host,
    settings: &Settings,
    user: &str,
    address: &str,
) -> Result<(), Fault> {
    let mut login =
        Login { wire, host, asker: Arc::clone(&settings.asker), user, tried: Vec::new(), offered: Vec::new() };
    let methods = match login.methods().await {
        Ok(methods) => methods,
        Err(trouble) => return Err(login.broken(address, &trouble)),
    };
    match login.by(&methods).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(login.refused(address, &methods)),
        Err(trouble) => Err(login.broken(address, &trouble)),
    }
}

struct Login<'a> {
    wire: &'a mut Wire,
    host: &'a Host,
    asker: Arc<dyn Asker>,
    user: &'a str,
    tried: Vec<String>,
    /// Keys that were offered, as ssh sends them: none is offered twice.
    offered: Vec<Vec<u8>>,
}

/// Whether that let us in.
type Entered = Result<bool, Trouble>;

impl Login<'_> {
    /// What the server takes. It may let in without anything.
    async fn methods(&self) -> Result<Vec<String>, Trouble> {
        let session = self.wire.session();
        let found = self.wire.wait_for(|| session.auth_methods(self.user).map(str::to_owned)).await;
        match found {
            Ok(methods) => Ok(methods.split(',').map(str::to_owned).collect()),
            Err(_) if session.authenticated() => Ok(Vec::new()),
            Err(trouble) => Err(trouble),
        }
    }

    async fn by(&mut self, methods: &[String]) -> Entered {
        let takes = |name: &str| methods.iter().any(|method| method == name);
        if self.wire.session().authenticated() {
            return Ok(true);
        }
        if takes("publickey") && self.keys().await? {
            return Ok(true);
        }
        let (plain, interactive) = (takes("password"), takes("keyboard-interactive"));
        Ok((plain || interactive) && self.password(plain, interactive).await?)
    }

    /// Tries the agent's keys, then key files.
    async fn keys(&mut self) -> Entered {
        // A key that the inventory names is meant, and no other is shown.
        if let Some(path) = &self.host.connection.key_file {
            let path = super::expand_home(path);
            return match has_agent().then(|| public_key(&path)).flatten() {
                Some(public) if self.agent(Some(&public)).await? => Ok(true),
                _ => self.key_file(&path, true).await,
            };
        }
        if self.agent(None).await? {
            return Ok(true);
        }
        let folder = env::var_os("HOME").map(PathBuf::from).unwrap_or_default().join(".ssh");
        let is_new = |path: &PathBuf| path.exists() && public_key(path).is_none_or(|key| !self.offered.contains(&key));
        let paths: Vec<PathBuf> = USUAL_KEYS.iter().map(|name| folder.join(name)).filter(is_new).collect();
        // Those that need no question go first.
        for ask in [false, true] {
            for path in paths.iter().filter(|path| is_encrypted(path).unwrap_or(false) == ask) {
                if self.key_file(path, ask).await? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Tries keys that an ssh agent holds: `only` that one, if given.
    async fn agent(&mut self, only: Option<&[u8]>) -> Entered {
        if !has_agent() {
            return Ok(false);
        }
        let session = self.wire.session().clone();
        let listed = aside(move || list(session.agent()?)).await;
        let (mut agent, identities) = match listed {
            Some(Ok(listed)) => listed,
            Some(Err(error)) => {
                self.tried.push(format!("the ssh agent ({})", error.message()));
                return Ok(false);
            }
            None => return Ok(false),
        };
        let meant = identities.into_iter().filter(|identity| only.is_none_or(|key| identity.blob() == key));
        for identity in meant.take(AGENT_KEYS_MAX) {
            let comment = identity.comment().to_owned();
            self.offered.push(identity.blob().to_owned());
            let (back, entered) = self.identity(agent, identity).await?;
            match entered {
                Ok(()) => return Ok(true),
                Err(trouble) => self.note(format!("the agent's key {comment:?}"), trouble)?,
            }
            agent = back;
        }
        Ok(false)
    }

    /// Tries one key of the agent's. The agent may ask a person (a touch, a confirmation): that is done aside.
    async fn identity(&mut self, agent: Agent, identity: PublicKey) -> Result<(Agent, Result<(), Trouble>), Trouble> {
        let (mut agent, identity) = (agent, Arc::new(identity));
        loop {
            let (user, key) = (self.user.to_owned(), Arc::clone(&identity));
            let watchless = move || {
                let done = agent.userauth(&user, &key);
                (agent, done)
            };
            let began = Instant::now();
            let (back, done) = aside(watchless).await.ok_or(Trouble::Late)?;
            self.wire.until += began.elapsed();
            agent = back;
            match self.wire.attempt(|| done) {
                Some(done) => return Ok((agent, done)),
                None => self.wire.wait().await?,
            }
        }
    }

    async fn key_file(&mut self, path: &Path, ask: bool) -> Entered {
        let name = format!("the key {}", path.display());
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                self.tried.push(format!("{name} (it cannot be read: {error})"));
                return Ok(false);
            }
        };
        let passphrase = match (looks_encrypted(&text), ask) {
            (false, _) => None,
            (true, true) => match self.ask(format!("{ASK_PASSPHRASE} {}", path.display())).await {
                Some(passphrase) => Some(passphrase),
                None => {
                    self.tried.push(format!("{name} (it has a passphrase, and nobody could be asked)"));
                    return Ok(false);
                }
            },
            (true, false) => return Ok(false),
        };
        let session = self.wire.session();
        let passphrase = passphrase.as_ref().map(Secret::expose);
        let entered = self.wire.wait_for(|| session.userauth_pubkey_memory(self.user, None, &text, passphrase)).await;
        self.entered(name, entered)
    }

    async fn password(&mut self, plain: bool, interactive: bool) -> Entered {
        let known = self.host.connection.password.clone();
        let Some(password) = (match known {
            Some(password) => Some(password),
            None => self.ask(ASK_PASSWORD.to_owned()).await,
        }) else {
            self.tried.push("no password (nobody could be asked, and ROLLBOOK_PASSWORD is not set)".to_owned());
            return Ok(false);
        };
        if plain {
            let session = self.wire.session();
            let entered = self.wire.wait_for(|| session.userauth_password(self.user, password.expose())).await;
            if self.entered("the password".to_owned(), entered)? {
                return Ok(true);
            }
        }
        if interactive {
            let mut answers = Answers { password: &password, given: false };
            let session = self.wire.session();
            let entered = self.wire.wait_for(|| session.userauth_keyboard_interactive(self.user, &mut answers)).await;
            return self.entered("the password, as keyboard-interactive asks for it".to_owned(), entered);
        }
        Ok(false)
    }

    /// Asks the operator. The time that takes is not the host's.
    async fn ask(&mut self, question: String) -> Option<Secret> {
        let (asker, began) = (Arc::clone(&self.asker), Instant::now());
        let answer = aside(move || asker.ask(&question)).await.flatten();
        self.wire.until += began.elapsed();
        answer
    }

    fn entered(&mut self, what: String, entered: Result<(), Trouble>) -> Entered {
        match entered {
            Ok(()) => Ok(true),
            Err(trouble) => self.note(what, trouble).map(|()| false),
        }
    }

    /// Notes what was tried in vain; what is a trouble of the line goes on.
    fn note(&mut self, what: String, trouble: Trouble) -> Result<(), Trouble> {
        if !trouble.is_refusal() {
            self.tried.push(what);
            return Err(trouble);
        }
        self.tried.push(format!("{what} ({trouble})"));
        Ok(())
    }

    fn refused(&self, address: &str, methods: &[String]) -> Fault {
        let tried = if self.tried.is_empty() {
            "nothing: there is no key and no password".to_owned()
        } else {
            self.tried.join("; ")
        };
        let mut fault = unreachable(format!("permission denied: {address} did not let {} in", self.user));
        fault.causes.push(format!("tried: {tried}"));
        fault.hint(format!("the server takes: {:.200}", methods.join(", ")))
    }

    fn broken(&self, address: &str, trouble: &Trouble) -> Fault {
        let mut fault = unreachable(format!("{address} broke off the login of {}", self.user)).because(trouble);
        if !self.tried.is_empty() {
            fault.causes.push(format!("tried: {}", self.tried.join("; ")));
        }
        fault
    }
}

fn has_agent() -> bool {
    env::var_os("SSH_AUTH_SOCK").is_some_and(|socket| !socket.is_empty())
}

fn list(mut agent: Agent) -> Result<(Agent, Vec<PublicKey>), Error> {
    agent.connect()?;
    agent.list_identities()?;
    let identities = agent.identities()?;
    Ok((agent, identities))
}

/// The public half of a key file, if it can be had without its passphrase.
fn public_key(path: &Path) -> Option<Vec<u8>> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".pub");
    let public = fs::read_to_string(beside).ok().and_then(|text| ssh_key::PublicKey::from_openssh(&text).ok());
    let private = || ssh_key::PrivateKey::from_openssh(fs::read(path).ok()?).ok().map(|key| key.public_key().clone());
    public.or_else(private)?.to_bytes().ok()
}

fn is_encrypted(path: &Path) -> std::io::Result<bool> {
    fs::read_to_string(path).map(|text| looks_encrypted(&text))
}

/// How the file of a key without a passphrase begins: `openssh-key-v1`, and `none` for its cipher.
const PLAIN_KEY: &str = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmU";

/// Whether a private key has a passphrase.
fn looks_encrypted(text: &str) -> bool {
    if text.lines().nth(1).is_some_and(|line| line.starts_with(PLAIN_KEY)) {
        return false;
    }
    match ssh_key::PrivateKey::from_openssh(text) {
        Ok(key) => key.is_encrypted(),
        Err(_) => text.contains("ENCRYPTED"),
    }
}

/// Answers a hidden question with the password: the first time only, since a server that asks again does not want it.
struct Answers<'a> {
    password: &'a Secret,
    given: bool,
}

impl ssh2::KeyboardInteractivePrompt for Answers<'_> {
    fn prompt<'b>(&mut self, _user: &str, _how: &str, prompts: &[ssh2::Prompt<'b>]) -> Vec<String> {
        let mut answer = |prompt: &ssh2::Prompt<'_>| {
            if prompt.echo || std::mem::replace(&mut self.given, true) {
                return String::new();
            }
            self.password.expose().to_owned()
        };
        prompts.iter().map(&mut answer).collect()
    }
}
