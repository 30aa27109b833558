//! `rollbook hosts`.

use std::{collections::HashSet, path::PathBuf, sync::Arc};

use clap::Args;
use serde_json::{Value as Data, json};

use crate::{
    base::{Faults, Place},
    cli::{Exit, Global, run::refuse, secrets::shown},
    model::{
        inventory::{Become, Connection, Host, Inventory},
        runbook::Placed,
    },
    report::{self, Line, Table, clean},
    syntax,
};

#[derive(Debug, Args)]
pub(crate) struct HostsArgs {
    /// Only these: names, groups, globs, `a:&b`, `a:!b`
    #[arg(default_value = "all")]
    pattern: String,
    /// The inventory: a YAML file, with group_vars/ and host_vars/ beside it
    #[arg(short, long, value_name = "FILE", env = "ROLLBOOK_INVENTORY")]
    inventory: PathBuf,
    /// Show the variables of each host as written, and where each is written
    #[arg(long)]
    vars: bool,
}

pub(crate) fn run(args: &HostsArgs, global: &Global) -> Exit {
    let hosts = match chosen(args) {
        Ok(hosts) => hosts,
        Err(faults) => return refuse(&faults, global),
    };
    match (global.json, args.vars) {
        (true, vars) => hosts.iter().for_each(|host| report::write_json(&to_json(host, vars).to_string())),
        (false, false) => report::write_lines(&table(&hosts)),
        (false, true) => hosts.iter().for_each(|host| report::write_lines(&with_vars(host))),
    }
    Exit::Done
}

fn chosen(args: &HostsArgs) -> Result<Vec<Arc<Host>>, Faults> {
    let (inventory, _): (Inventory, _) = syntax::inventory::load(&args.inventory)?;
    let pattern = Placed { value: args.pattern.clone(), place: Place::file("PATTERN") };
    let names: HashSet<_> = syntax::pattern::select(&inventory, &pattern)?.into_iter().collect();
    Ok(inventory.hosts.into_iter().filter(|host| names.contains(&host.name)).collect())
}

fn table(hosts: &[Arc<Host>]) -> Vec<Line> {
    let mut table = Table::new(&["HOST", "ADDRESS", "PORT", "USER", "TRANSPORT", "BECOME", "GROUPS"]);
    for host in hosts {
        let connection = &host.connection;
        let given = |text: Option<&str>| clean::line(text.unwrap_or("-"));
        table.row(vec![
            clean::line(host.name.as_str()),
            given(connection.address.as_deref()),
            connection.port.map_or("-".to_owned(), |port| port.to_string()),
            given(connection.user.as_deref()),
            connection.transport.name().to_owned(),
            given(becomes(connection)),
            clean::line(&host.groups.iter().filter(|group| *group != "all").cloned().collect::<Vec<_>>().join(", ")),
        ]);
    }
    table.lines()
}

fn becomes(connection: &Connection) -> Option<&str> {
    match connection.become_user.as_ref()? {
        Become::No => Some("no"),
        Become::Root => Some("root"),
        Become::User(user) => Some(user),
    }
}

/// A host, and under it each variable with its place.
fn with_vars(host: &Host) -> Vec<Line> {
    let mut lines = vec![Line::of(host.name.as_str())];
    let mut table = Table::default();
    for (name, node) in host.vars.iter() {
        let value = shown(name, node).to_string();
        table.row(vec![format!("  {}", clean::line(name)), clean::line(&value), clean::line(&node.place.to_string())]);
    }
    lines.extend(table.lines());
    lines
}

/// A host as JSON. Passwords are never in it.
fn to_json(host: &Host, vars: bool) -> Data {
    let connection = &host.connection;
    let mut object = json!({
        "host": host.name.as_str(),
        "address": connection.address,
        "port": connection.port,
        "user": connection.user,
        "transport": connection.transport.name(),
        "become": becomes(connection),
        "groups": host.groups,
    });
    if vars {
        let vars = host.vars.iter().map(|(name, node)| (name.to_string(), shown(name, node)));
        object["vars"] = Data::Object(vars.collect());
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::HIDDEN;

    fn hosts(text: &str) -> Vec<Arc<Host>> {
        syntax::inventory::parse("hosts.yml", text).unwrap().hosts
    }

    const TEXT: &str = "
web:
  vars: {user: deploy, become: true, db_password: s3cret, app: {api_token: s3cret, name: x, list: [{secret: s3cret}]}}
  hosts:
    web1: {address: 10.0.0.1, port: 2222, password: s3cret}
    \"w\\u00e9b2\":
";

    #[test]
    fn a_line_a_host() {
        let lines: Vec<String> = table(&hosts(TEXT)).iter().map(Line::plain).collect();
        assert_eq!(
            lines,
            [
                "HOST  ADDRESS   PORT  USER    TRANSPORT  BECOME  GROUPS",
                "web1  10.0.0.1  2222  deploy  ssh2       root    web",
                "wéb2  -         -     deploy  ssh2       root    web",
            ]
        );
    }

    #[test]
    fn no_secret_is_shown() {
        for host in hosts(TEXT) {
            let all = format!("{}{:?}", to_json(&host, true), with_vars(&host));
            assert!(!all.contains("s3cret") && all.contains("\"name\":\"x\""), "{all}");
        }
        let json = to_json(&hosts(TEXT)[0], true);
        assert_eq!(json["vars"]["db_password"], HIDDEN);
        assert_eq!(json["vars"]["app"]["list"][0]["secret"], HIDDEN);
        assert_eq!((&json["port"], &json["become"]), (&json!(2222), &json!("root")));
    }

    #[test]
    fn variables_come_with_their_places() {
        let lines = with_vars(&hosts("all: {hosts: {h: {x: 1}}}")[0]);
        let lines: Vec<String> = lines.iter().map(Line::plain).collect();
        assert_eq!(lines, ["h", "  x  1  hosts.yml:1:22"]);
    }
}
