//! Words of Ansible's that are none here, and what to write instead.

/// What stands in a play, a task or a block there.
pub(super) fn instead_of_key(word: &str) -> Option<&'static str> {
    if word.starts_with("with_") {
        return Some("write `loop`, with a list or an expression that gives one");
    }
    let hint = match word {
        "name" => "what a runbook is called stands under `runbook`",
        "tasks" | "pre_tasks" | "post_tasks" => "write `steps`",
        "roles" => "there are no roles: write what they do as `steps`",
        "gather_facts" => "remove it: facts are there when something asks for them",
        "serial" | "max_fail_percentage" => "write `strategy: {batches: [1, 25%, 100%], max_failures: 1}`",
        "vars_files" | "vars_prompt" => "give values by `--set name=value` or `--set @file.yml`",
        "remote_user" => "who logs in is said in the inventory: `user`",
        "connection" => "how a host is reached is said in the inventory: `transport`",
        "become" => "it is said once, for the runbook, or for a host in the inventory",
        "become_user" => "write `become: NAME`, for the runbook, or for a host in the inventory",
        "environment" | "tags" => "it stands with a step, or with a block of them",
        "register" => "give the step an `id`, and find its results under steps.<id>",
        "ignore_errors" => {
            "say with `ok_codes` what is no failure, give a block a `rescue`, or write `strategy: {on_failure: continue}`"
        }
        "changed_when" => {
            "say `changes: false` of a command that only looks; else `creates`, `removes`, `unless`, `only_if`"
        }
        "failed_when" => "say with `ok_codes` which exit codes are no failure, or look at the result with `assert`",
        "until" | "retries" | "delay" => "write `retry: {times: 3, delay: 2s}`: a step is tried again where it fails",
        "args" => "write them beside `cmd`: `command: {cmd: make, chdir: /srv}`",
        "loop_control" => "remove it: an item is always `item`",
        "listen" => "a handler is notified by its `name`",
        "local_action" => "write `delegate_to`, with a host that has `transport: local`",
        "no_log" => "write `sensitive: true`",
        "async" | "poll" => "write `timeout` where a step may take long",
        _ => return None,
    };
    Some(hint)
}

/// A module there, without the name of its collection.
pub(super) fn instead_of_module(word: &str) -> Option<&'static str> {
    let hint = match word {
        "apt" | "yum" | "dnf" | "zypper" | "pacman" | "apk" => "write `package`",
        "systemd" | "systemd_service" | "sysvinit" => "write `service`",
        "uri" => "write `http`",
        "script" => "write `shell`, with the script's text",
        "set_fact" => "write `vars`, of the runbook or of the steps that use them",
        "setup" => "remove it: facts are there when something asks for them",
        "stat" => "guards look at paths: `creates`, `removes`; and so does `wait_for: {path: /x}`",
        "include_vars" => "give values by `--set @file.yml`",
        "include" | "include_tasks" | "import_tasks" | "include_role" | "import_role" | "import_playbook" => {
            "a runbook is one file: write the steps here"
        }
        "archive" | "authorized_key" | "cron" | "fetch" | "get_url" | "git" | "hostname" | "mount" | "pip"
        | "reboot" | "synchronize" | "sysctl" | "unarchive" => "write `command` or `shell`, with a guard and an `undo`",
        _ => return None,
    };
    Some(hint)
}

/// A module's name without that of its collection: `copy` of `ansible.builtin.copy`.
pub(super) fn module(word: &str) -> &str {
    let is_collected = word.matches('.').count() == 2;
    word.rsplit('.').next().filter(|_| is_collected).unwrap_or(word)
}
