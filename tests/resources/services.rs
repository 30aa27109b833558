//! Services, with systemd for real.

use rollbook::{
    model::Act,
    resources::{Halt, service},
};

use crate::host::{Host, sh, words};

/// Every link of systemd's, and what the test's units are doing.
fn memory() -> String {
    sh("find /etc/systemd/system -printf '%p %l\\n' | sort; systemctl is-active rbtest rbtest2 || true; \
        systemctl show -p UnitFileState,ActiveState rbtest rbtest2")
}

/// A host with units of the test's own: `rbtest` runs and reloads, `rbtest2` fails at once, `rbonce` runs to its end.
/// They are where packages put theirs, so that they can be masked.
fn fresh() -> Host {
    let host = Host::take();
    sh(
        "d=/lib/systemd/system; systemctl unmask -q rbtest rbtest2 rbonce; systemctl stop rbtest rbtest2 2>/dev/null || true; \
        systemctl disable -q rbtest rbtest2 2>/dev/null || true; \
        printf '[Service]\\nExecStart=/bin/sleep infinity\\nExecReload=/bin/sh -c \"echo reloaded >>/run/rbtest.log\"\\n[Install]\\nWantedBy=multi-user.target\\nAlias=rbalias.service\\n' >$d/rbtest.service; \
        printf '[Service]\\nExecStart=/bin/sh -c \"echo my last words; exit 3\"\\n[Install]\\nWantedBy=multi-user.target\\n' >$d/rbtest2.service; \
        printf '[Service]\\nType=oneshot\\nExecStart=/bin/sh -c \"echo once >>/run/rbonce.log\"\\n' >$d/rbonce.service; \
        printf '[Nonsense\\n' >$d/rbbad.service; rm -f /run/rb*.log; systemctl daemon-reload; systemctl reset-failed",
    );
    host
}

fn restart(host: &mut Host, name: &str) -> Result<(), Halt> {
    host.act(Act::Restart(name.into()), |tools| service::restart(tools, name))
}

fn reload(host: &mut Host, name: &str) -> Result<(), Halt> {
    host.act(Act::Reload(name.into()), |tools| service::reload(tools, name))
}

#[test]
#[ignore = "needs root and a Debian test host: tests/run"]
fn started_enabled_and_back() {
    let mut host = fresh();
    let before = memory();
    let done = host.apply("service", r#"{"name": "rbtest", "state": "started", "enabled": true}"#);
    assert_eq!(words(&done.0), ["service rbtest.service: enabled no → yes, active no → yes"]);
    let running = memory();
    let stopped = host.apply("service", r#"{"name": "rbtest.service", "state": "stopped", "enabled": false}"#);
    assert_eq!(words(&stopped.0), ["service rbtest.service: enabled yes → no, active yes → no"]);
    assert_eq!(memory(), before);
    host.undo(stopped);
    assert_eq!(memory(), running);
    let aliased = host.apply("service", r#"{"name": "rbalias", "state": "stopped"}"#);
    assert_eq!(words(&aliased.0), ["service rbtest.service: active yes → no"]);
    host.undo(aliased);
    host.undo(done);
    assert_eq!(memory(), before);
}

#[test]
#[ignore = "needs root and a Debian test host: tests/run"]
fn what_stops_with_it_is_planned_and_comes_back() {
    let mut host = fresh();
    sh("d=/run/systemd/system; mkdir -p $d; \
        unit() { printf '[Unit]\\n%s\\n[Service]\\nExecStart=/bin/sleep infinity\\n' \"$2\" >$d/$1.service; }; \
        unit rbneeds 'Requires=rbtest.service'; unit rbpart 'PartOf=rbtest.service'; unit rbdeep 'BindsTo=rbneeds.service'; \
        unit rbidle 'Requires=rbtest.service'; unit rbapart 'Wants=rbtest.service'; \
        systemctl daemon-reload; systemctl start rbneeds rbpart rbdeep rbapart");
    let running = || sh("systemctl is-active rbtest rbneeds rbpart rbdeep rbidle rbapart || true");
    let before = running();
    assert_eq!(before, "active\nactive\nactive\nactive\ninactive\nactive\n");
    let done = host.apply("service", r#"{"name": "rbtest", "state": "stopped"}"#);
    let mut told = words(&done.0);
    assert_eq!(told.pop().unwrap(), "service rbtest.service: active yes → no");
    assert_eq!(told.remove(0), "service rbdeep.service: active yes → no");
    told.sort();
    assert_eq!(told, ["rbneeds", "rbpart"].map(|name| format!("service {name}.service: active yes → no")));
    assert_eq!(running(), "inactive\ninactive\ninactive\ninactive\ninactive\nactive\n");
    assert!(host.plan("service", r#"{"name": "rbtest", "state": "stopped"}"#).unwrap().is_empty());
    host.undo(done);
    assert_eq!(running(), before);
    sh("systemctl stop rbtest rbapart; cd /run/systemd/system; \
        for unit in needs part deep idle apart; do rm rb$unit.service; done; systemctl daemon-reload");
}

#[test]
#[ignore = "needs root and a Debian test host: tests/run"]
fn a_mask_hides_nothing_from_the_way_back() {
    let mut host = fresh();
    for enabled in ["true", "false"] {
        let ready =
            host.apply("service", &format!(r#"{{"name": "rbtest", "state": "started", "enabled": {enabled}}}"#));
        let before = memory();
        let masked = host.apply("service", r#"{"name": "rbtest", "state": "stopped", "masked": true}"#);
        assert_eq!(words(&masked.0), ["service rbtest.service: masked no → yes, active yes → no"]);
        let hidden = memory();
        let (nothing, halt) = host.try_apply("service", r#"{"name": "rbtest", "state": "started"}"#).unwrap_err();
        assert!(nothing.0.is_empty() && halt.message().contains("rbtest.service is masked"), "{halt}");
        let turned = if enabled == "true" { "false" } else { "true" };
        let shown = host.apply(
            "service",
            &format!(r#"{{"name": "rbtest", "state": "started", "masked": false, "enabled": {turned}}}"#),
        );
        host.undo(shown);
        assert_eq!(memory(), hidden);
        host.undo(masked);
        assert_eq!(memory(), before);
        host.undo(ready);
    }
}

#[test]
#[ignore = "needs root and a Debian test host: tests/run"]
fn a_service_that_dies_tells_why() {
    let mut host = fresh();
    let before = memory();
    let (done, halt) =
        host.try_apply("service", r#"{"name": "rbtest2", "state": "started", "enabled": true}"#).unwrap_err();
    let message = halt.message();
    assert!(message.starts_with("systemctl start rbtest2.service failed"), "{message}");
    assert!(message.contains("my last words") && message.contains("status=3"), "{message}");
    host.undo(done);
    sh("systemctl reset-failed rbtest2");
    assert_eq!(memory(), before);
}

#[test]
#[ignore = "needs root and a Debian test host: tests/run"]
fn a_changed_unit_file_is_read_again() {
    let mut host = fresh();
    let done = host.apply("service", r#"{"name": "rbtest", "state": "started"}"#);
    sh("sed -i 's/infinity/3333/' /lib/systemd/system/rbtest.service");
    let decision = host.want("service", r#"{"name": "rbtest", "state": "restarted"}"#, false).unwrap();
    assert_eq!((decision.states.len(), decision.acts), (0, vec![Act::Restart("rbtest.service".into())]));
    restart(&mut host, "rbtest.service").unwrap();
    assert!(sh("systemctl show -p ExecStart rbtest").contains("3333"));
    let decision = host.want("service", r#"{"name": "rbtest", "state": "reloaded"}"#, false).unwrap();
    assert_eq!(decision.acts, [Act::Reload("rbtest.service".into())]);
    reload(&mut host, "rbtest.service").unwrap();
    assert_eq!(sh("cat /run/rbtest.log"), "reloaded\n");
    host.undo(done);
    reload(&mut host, "rbtest.service").unwrap();
    assert_eq!(sh("systemctl is-active rbtest || true"), "inactive\n");
    let halt = restart(&mut host, "rbtest2.service").unwrap_err();
    assert!(halt.message().contains("my last words"), "{halt}");
}

#[test]
#[ignore = "needs root and a Debian test host: tests/run"]
fn restarting_starts_what_does_not_run() {
    let mut host = fresh();
    let done = host.try_apply("service", r#"{"name": "rbtest", "state": "restarted"}"#).unwrap();
    assert_eq!(words(&done.0), ["service rbtest.service: active no → yes"]);
    host.undo(done);
    let once = host.want("service", r#"{"name": "rbonce", "state": "restarted"}"#, false).unwrap();
    assert_eq!(once.acts, [Act::Restart("rbonce.service".into())]);
    restart(&mut host, "rbonce.service").unwrap();
    assert_eq!(sh("cat /run/rbonce.log"), "once\n");
}

#[test]
#[ignore = "needs root and a Debian test host: tests/run"]
fn what_cannot_be_is_refused_before_anything_is_done() {
    let mut host = fresh();
    let mut refused = |step: &str| host.plan("service", step).unwrap_err().message().to_owned();
    assert_eq!(
        refused(r#"{"name": "rbtset", "state": "started"}"#),
        "there is no unit rbtset.service; the nearest is rbtest.service"
    );
    assert!(refused(r#"{"name": "systemd-journald", "enabled": true}"#).contains("cannot be enabled: it is static"));
    assert!(refused(r#"{"name": "rbonce", "state": "started"}"#).contains("runs to its end"));
    assert!(refused(r#"{"name": "rbbad", "state": "started"}"#).contains("failed to load properly"));
    assert!(host.plan("service", r#"{"name": "nosuch", "state": "stopped", "enabled": false}"#).unwrap().is_empty());
    sh("apt-get -qq update");
    host.stage("package", r#"{"name": "rbother"}"#);
    let unknown = host.plan("service", r#"{"name": "nosuch", "state": "started"}"#).unwrap_err();
    assert!(matches!(unknown, Halt::Unknown(_)), "{unknown}");
}
