use std::{collections::BTreeMap, fs, sync::Arc};

use serde_json::json;

use super::*;
use crate::model::inventory::{Connection, Host, HostVars, Inventory};

fn place() -> Place {
    Place { file: "book.yml".into(), line: 7, column: 11, width: 1 }
}

/// A quoted text's place: as wide as the text and its quotes.
fn quoted(text: &str) -> Place {
    Place { width: text.chars().count() as u32 + 2, ..place() }
}

fn host(vars: &[(&str, Data)]) -> Arc<Host> {
    let node = |data: &Data| Arc::new(Node::from_data(data, &place()));
    Arc::new(Host {
        name: "web1".into(),
        groups: ["all".to_owned(), "web".to_owned()].into(),
        vars: HostVars::new(Arc::default(), vars.iter().map(|(name, data)| ((*name).into(), node(data))).collect()),
        connection: Connection::default(),
    })
}

fn layer(vars: &[(&str, Data)]) -> VarLayer {
    let vars: Vec<(String, Node)> =
        vars.iter().map(|(name, data)| ((*name).to_owned(), Node::from_data(data, &place()))).collect();
    VarLayer::from(&vars[..])
}

fn vars(inventory: &[(&str, Data)], runbook: &[(&str, Data)]) -> Scope {
    Scope { vars: Vars::new(&host(inventory), &layer(runbook), &Arc::default()), ..scope() }
}

fn scope() -> Scope {
    let params = json!({"version": "1.2.3", "count": 3, "debug": false, "list": [1, 2]});
    let params: BTreeMap<String, Data> = serde_json::from_value(params).unwrap();
    Scope {
        params: Arc::new(params),
        host: Arc::new(json!({"name": "web1", "groups": ["all", "web"]})),
        groups: Arc::new(Inventory {
            groups: BTreeMap::from([("web".into(), vec!["web1".into(), "web2".into()])]),
            ..Inventory::default()
        }),
        facts: Some(Arc::new(FactSheet::new(Box::new(|| {
            Arc::new(json!({"distribution": "debian", "cpus": 2, "evil": "{{ params.version }}"}))
        })))),
        steps: BTreeMap::from([("build".into(), Some(Arc::new(json!({"changed": true})))), ("later".into(), None)]),
        ..Scope::default()
    }
}

fn renderer() -> Renderer {
    Renderer::new(PathBuf::from("src/render/filters"))
}

fn text(text: &str, scope: &Scope) -> Result<Data, RenderHalt> {
    renderer().text(text, &quoted(text), scope)
}

fn good(source: &str, scope: &Scope) -> Data {
    text(source, scope).unwrap_or_else(|halt| panic!("{source}: {halt:?}"))
}

fn fault(result: Result<Data, RenderHalt>) -> Fault {
    match result {
        Err(RenderHalt::Fault(fault)) => *fault,
        other => panic!("no fault: {other:?}"),
    }
}

/// The message, where from the text's own first column, and the hints.
fn wrong(source: &str, scope: &Scope) -> String {
    let fault = fault(text(source, scope));
    let at = fault.place.expect("every fault has a place");
    let mut said = format!("{}:{}+{} {}", at.line - 7, i64::from(at.column) - 12, at.width, fault.message);
    fault.hints.iter().for_each(|hint| said.push_str(&format!(" | {hint}")));
    said
}

fn pending(source: &str, scope: &Scope) -> Pending {
    match text(source, scope) {
        Err(RenderHalt::Pending(pending)) => pending,
        other => panic!("{source} is not pending: {other:?}"),
    }
}

#[test]
fn texts_without_a_template_stay_as_they_are() {
    for plain in ["", "a { b } %} }}", "100%", "${HOME}"] {
        assert_eq!(good(plain, &scope()), json!(plain));
    }
}

#[test]
fn a_whole_expression_keeps_its_type_and_others_give_text() {
    let scope = scope();
    assert_eq!(good("{{ params.count }}", &scope), json!(3));
    assert_eq!(good("{{- params.list -}}", &scope), json!([1, 2]));
    assert_eq!(good("{{ none }}", &scope), json!(null));
    assert_eq!(good("{{ 1.5 }}", &scope), json!(1.5));
    assert_eq!(good("{{ params.count }} ", &scope), json!("3 "));
    assert_eq!(good("{{ params.count }}{{ params.count }}", &scope), json!("33"));
    assert_eq!(good("{{ '}}' ~ \"{{\" }}", &scope), json!("}}{{"));
    assert_eq!(good("{% if params.debug %}x{% endif %}", &scope), json!(""));
    assert_eq!(good("{{ params | length > 2 }}", &scope), json!(true));
    assert_eq!(good("{{ {'z': 1, 'a': {'y': 2, 'b': 3}} }}", &scope).to_string(), r#"{"z":1,"a":{"y":2,"b":3}}"#);
}

#[test]
fn output_is_data_and_never_rendered_again() {
    let scope = vars(&[("v", json!("{{ facts.evil }}"))], &[]);
    for source in ["{{ facts.evil }}", "{{ v }}", "{{ '{{ params.version }}' }}"] {
        assert_eq!(good(source, &scope), json!("{{ params.version }}"), "{source}");
    }
    let said = wrong("{% include 'text:{{ 1 }}' %}", &scope);
    assert!(said.contains("there is no file \"text:"), "{said}");
    assert!(wrong("{% include facts.evil %}", &scope).contains("there is no file \"{{ params"));
}

#[test]
fn python_methods_and_order() {
    let scope = vars(&[], &[("map", json!({"z": 1, "a": 2}))]);
    assert_eq!(good("{{ 'a,b'.split(',') | last }}{{ ' x '.strip() }}", &scope), json!("bx"));
    assert_eq!(good("{% for k, v in map.items() %}{{ k }}{{ v }}{% endfor %}", &scope), json!("z1a2"));
    assert_eq!(good("{{ map }}", &scope).to_string(), r#"{"z":1,"a":2}"#);
    assert_eq!(good("{{ groups.web | join(',') }} {{ groups['web'] | length }}", &scope), json!("web1,web2 2"));
}

#[test]
fn undefined_names_are_told_with_place_and_nearest() {
    let scope = vars(&[("version", json!("1"))], &[]);
    assert_eq!(wrong("{{ verison }}", &scope), "0:3+7 there is no variable `verison` | did you mean `version`?");
    assert_eq!(
        wrong("ä: {{ 'verison' ~ verison }}", &scope),
        "0:18+7 there is no variable `verison` | did you mean `version`?"
    );
    assert_eq!(
        wrong("{{ params.verison }}", &scope),
        "0:3+14 `params` has no `verison` | did you mean `params.version`?"
    );
    assert_eq!(
        wrong("x {{ count }}", &scope),
        "0:5+5 there is no variable `count` | parameters are found under `params`: `params.count`"
    );
    assert_eq!(
        wrong("{{ item }}", &scope),
        "0:3+4 there is no variable `item` | `item` is there only in a step that has a `loop`"
    );
    assert_eq!(
        wrong("{{ inventory_hostname }}", &scope),
        "0:3+18 there is no variable `inventory_hostname` | the host's name is `host.name`"
    );
    assert_eq!(wrong("{{ facts.cpu }}", &scope), "0:3+9 `facts` has no `cpu` | did you mean `facts.cpus`?");
    assert_eq!(wrong("{{ [nope] }}", &scope), "0:4+4 there is no variable `nope`");
    assert_eq!(wrong("{% for x in nope %}{% endfor %}", &scope), "0:12+4 there is no variable `nope`");
    assert_eq!(wrong("{{ 1 if nope else 2 }}", &scope), "0:8+4 there is no variable `nope`");
    assert_eq!(wrong("{{ nope | upper }}", &scope), "0:3+4 there is no variable `nope`");
    assert_eq!(good("{{ nope | default(1) }}{{ nope is defined }}", &scope), json!("1False"));
}

#[test]
fn blocks_folded_lines_and_escapes_are_looked_up_in_the_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let name: Arc<str> = file.path().to_str().unwrap().into();
    fs::write(&name as &str, "a: |\n  one nope\n  ä {{ nope }}\nb: 'it''s {{ nope }}'\nc: >-\n  one\n  {{ nope }}\n")
        .unwrap();
    let at = |line, column, width| Place { file: name.clone(), line, column, width };
    for (text, place, expected) in [
        ("one nope\nä {{ nope }}\n", at(2, 3, 1), at(3, 8, 4)),
        ("it's {{ nope }}", at(4, 4, 18), at(4, 14, 4)),
        ("one {{ nope }}", at(6, 3, 1), at(7, 6, 4)),
        ("one\ntwo {{ other }}", at(2, 3, 1), at(3, 1, 1)),
    ] {
        let fault = fault(renderer().text(text, &place, &scope()));
        assert_eq!(fault.place.unwrap(), expected, "{text}");
    }
}

#[test]
fn other_slips_are_told_with_nearest_names() {
    let scope = scope();
    assert_eq!(wrong("{{ 'a' | uper }}", &scope), "0:9+4 there is no filter `uper` | did you mean `upper`?");
    assert_eq!(wrong("{{ 1 is evn }}", &scope), "0:8+3 there is no test `evn` | did you mean `even`?");
    assert!(
        wrong("{{ lookup('env', 'HOME') }}", &scope)
            .ends_with("there are no lookups; put the value into vars or params")
    );
    assert!(wrong("{{ [] | to_yaml }}", &scope).ends_with("use `to_nice_json`"));
    assert!(wrong("{{ 1 + }}", &scope).contains("the template cannot be read: "));
    assert!(wrong("{% if true %}", &scope).contains("the template cannot be read: "));
    assert!(wrong("{{ range }}", &scope).contains("no data"));
    assert!(wrong("{{ 1 // 0 }}", &scope).contains("cannot be rendered"));
}

#[test]
fn what_is_not_known_yet_is_pending_however_it_is_asked() {
    let scope = Scope { facts: None, ..vars(&[("distro", json!("{{ facts.distribution }}"))], &[]) };
    for source in [
        "{{ facts.distribution }}",
        "{{ facts is defined }}",
        "{{ facts.x | default('y') }}",
        "{{ distro }}",
        "{{ distro | default('x') }}",
        "{% if 'x' in distro %}{% endif %}",
        "{{ [facts] | first }}",
    ] {
        assert_eq!(pending(source, &scope), Pending::Facts, "{source}");
    }
    let later = Pending::Step("later".into());
    for source in [
        "{{ steps.later.changed }}",
        "{{ steps.later is defined }}",
        "{{ steps }}",
        "{{ steps['later'] }}",
        "{{ steps | tojson }}",
    ] {
        assert_eq!(pending(source, &scope), later, "{source}");
    }
    assert_eq!(good("{{ steps.build.changed }}", &scope), json!(true));
    assert_eq!(good("{{ 'x' if true else facts.y }}", &scope), json!("x"));
    assert_eq!(wrong("{{ steps.biuld.changed }}", &scope), "0:3+11 no step has the id `biuld` | did you mean `build`?");
    assert!(wrong("{{ steps.nothing is defined }}", &scope).contains("id: nothing"));
}

#[test]
fn variables_are_rendered_when_used_and_layers_hide_each_other() {
    let inventory = [
        ("name", json!("inv")),
        ("url", json!("http://{{ name }}/")),
        ("path", json!("/bin")),
        ("list", json!(["{{ name }}", 1])),
    ];
    let runbook = [("name", json!("book")), ("path", json!("{{ path }}:{{ name }}")), ("broken", json!("{{ nope }}"))];
    let scope = vars(&inventory, &runbook);
    assert_eq!(good("{{ url }} {{ path }}", &scope), json!("http://book/ /bin:book"));
    assert_eq!(good("{{ list }}", &scope), json!(["book", 1]));
    let step = Scope {
        vars: scope.vars.with_step(&layer(&[("name", json!("step")), ("path", json!("{{ path }}+"))])),
        ..scope.clone()
    };
    assert_eq!(good("{{ url }} {{ path }}", &step), json!("http://step/ /bin:step+"));
    let set = Arc::new(BTreeMap::from([("name".to_owned(), json!("{{ set }}"))]));
    let set = Scope { vars: Vars::new(&host(&inventory), &layer(&runbook), &set), ..scope.clone() };
    let set = Scope { vars: set.vars.with_step(&layer(&[("name", json!("step"))])), ..set };
    assert_eq!(good("{{ url }}", &set), json!("http://{{ set }}/"));
    assert!(wrong("{{ broken }}", &scope).contains("no variable `nope`"));
}

#[test]
fn a_variable_may_use_the_item() {
    let scope = vars(&[], &[("line", json!("{{ item }}!"))]);
    let renderer = renderer();
    for n in 0..3 {
        let scope = Scope { item: Some(Arc::new(json!(n))), ..scope.clone() };
        assert_eq!(renderer.text("{{ line }}", &place(), &scope).unwrap(), json!(format!("{n}!")));
    }
}

#[test]
fn variables_in_a_circle_and_long_rows_are_faults() {
    let scope = vars(
        &[("a", json!("{{ b }}"))],
        &[("b", json!("{{ c }}")), ("c", json!("{{ a }}")), ("me", json!("{{ me }}"))],
    );
    assert!(wrong("{{ a }}", &scope).contains("the variable `a` needs itself: `a` -> `b` -> `c` -> `a`"));
    assert!(wrong("{{ me }}", &scope).contains("no variable `me`"));
    let row: Vec<(String, Node)> =
        (0..40).map(|n| (format!("v{n}"), Node::text(format!("{{{{ v{} }}}}", n + 1), &place()))).collect();
    let scope = Scope { vars: Vars::new(&host(&[]), &VarLayer::from(&row[..]), &Arc::default()), ..scope };
    assert!(wrong("{{ v0 }}", &scope).contains("`v16` is the 17th of a row"));
}

#[test]
fn bombs_are_refused() {
    let scope = scope();
    for bomb in [
        "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
        "{{ 'x' * 1000000000 }}",
        "{{ ('x' * 1000000) * 1000 }}",
        "{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% for i in range(20) %}{{ 'x' * 9000000 }}{% endfor %}",
        "{{ 'x'.replace('x', 'xxxxxxxxxx' * 100000).replace('x', 'x' * 100000) }}",
        "{{ '{:>1000000000}'.format(1) }}",
        "{{ ('{0}' * 100000).format('x' * 1000000) }}",
        "{{ ('a ' * 5000000).split() | length }}",
        "{{ ('x' * 4000).join(range(99999)) }}",
        "{{ range(99999) | map('string') | join('x' * 100000) }}",
        "{{ '%1000000000d' | format(1) }}",
    ] {
        let said = wrong(bomb, &scope);
        let known = ["does too much", "more than 16 MiB", "nested"].iter().any(|part| said.contains(part));
        assert!(known || said.contains("cannot be rendered"), "{bomb}: {said}");
    }
    assert!(wrong("{{ range(1000000000) | list }}", &scope).contains("too many"));
    assert!(wrong("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", &scope).contains("recursion"));
    let deep = format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(wrong(&deep, &scope).contains("cannot be read"));
}

#[test]
fn variables_cannot_fill_the_memory_together() {
    let many: Vec<(String, Node)> =
        (0..40).map(|n| (format!("v{n}"), Node::text("{{ 'x' * 8000000 }}", &place()))).collect();
    let scope = Scope { vars: Vars::new(&host(&[]), &VarLayer::from(&many[..]), &Arc::default()), ..scope() };
    let all: Vec<String> = (0..40).map(|n| format!("v{n} | length")).collect();
    assert!(wrong(&format!("{{{{ [{}] }}}}", all.join(", ")), &scope).contains("more than 64 MiB"));
}

#[test]
fn the_deepest_templates_fit_on_a_small_stack() {
    // Each variable recurses as deep as it may before it asks for the next.
    let row: Vec<(String, Node)> = (0..16)
        .map(|n| {
            let text = format!(
                "{{% macro m(k) %}}{{% if k > 0 %}}{{{{ m(k - 1) }}}}{{% else %}}{{{{ v{} | default('') }}}}{{% endif %}}{{% endmacro %}}{{{{ m(12) }}}}",
                n + 1
            );
            (format!("v{n}"), Node::text(text, &place()))
        })
        .collect();
    let scope = Scope { vars: Vars::new(&host(&[]), &VarLayer::from(&row[..]), &Arc::default()), ..scope() };
    let run = move || format!("{:?}", text("{{ v0 }}", &scope));
    let said = std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap().join().unwrap();
    assert_eq!(said, "Ok(String(\"\"))");
}

#[test]
fn nodes_keep_places_and_tell_all_faults() {
    let at = |line| Place { line, ..place() };
    let entry = |key: &str, text: &str, line| Entry {
        key: key.into(),
        key_place: at(line),
        value: Node { value: Shape::Text { text: text.into(), plain: true }, place: at(line) },
    };
    let node = |entries| Node { value: Shape::Map(entries), place: at(1) };
    let given = node(vec![
        entry("{{ no }}", "0644", 2),
        entry("n", "{{ params.count }}", 3),
        entry("that", "params.count == 3", 4),
    ]);
    let rendered = renderer().node(&given, &["that"], &scope()).unwrap();
    assert_eq!(rendered.child("{{ no }}"), given.child("{{ no }}"), "what is no template stays as written");
    assert_eq!(rendered.child("n").unwrap().value, Shape::Int(3));
    assert_eq!(rendered.child("that").unwrap().value, Shape::Bool(true));
    assert_eq!(rendered.child("that").unwrap().place.line, 4);
    let wrong = node(vec![entry("a", "{{ x }}", 2), entry("b", "{{ steps.later }}", 3), entry("c", "{{ y }}", 4)]);
    let halts = renderer().node(&wrong, &[], &scope()).unwrap_err();
    assert_eq!(halts.len(), 3, "{halts:?}");
}

#[test]
fn conditions_are_strict_and_loops_are_lists() {
    let condition = |text: &str| renderer().condition(&Placed { value: text.into(), place: place() }, &scope());
    assert_eq!(condition("params.count > 2 and facts.cpus == 2"), Ok(true));
    assert_eq!(condition("not true"), Ok(false));
    for wrong in ["params.count", "'yes'", "none", "[]"] {
        assert!(
            matches!(condition(wrong), Err(RenderHalt::Fault(fault)) if fault.message.contains("not true or false"))
        );
    }
    assert!(condition("true) %}{{ 1 }}{% set x = (1").is_err(), "an expression cannot close its tag");
    let items = |text: &str| renderer().items(&Node::text(text, &place()), &scope());
    assert_eq!(items("params.list"), Ok(vec![json!(1), json!(2)]));
    assert_eq!(items("{{ range(2) }}"), Ok(vec![json!(0), json!(1)]));
    assert!(items("params.version").is_err() && items("params").is_err());
}

fn project() -> (tempfile::TempDir, Renderer) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("project");
    fs::create_dir_all(root.join("templates/parts")).unwrap();
    fs::create_dir_all(root.join("files")).unwrap();
    let write = |path: &str, text: &str| fs::write(root.join(path), text).unwrap();
    write(
        "templates/site.conf.j2",
        "server {{ host.name }};\n{% if true %}\nok\n{% endif %}\n  {% include 'parts/a.j2' %}\n",
    );
    write("templates/parts/a.j2", "part {{ nam }}\n");
    write("beside.j2", "{{ params.version }}\n");
    write("templates/loop.j2", "{% include 'loop.j2' %}");
    write("templates/out.j2", "{% include '../secret' %}");
    write("templates/optional.j2", "a{% include 'nothing.j2' ignore missing %}b");
    write("templates/hidden.j2", "{% include 'link' ignore missing %}");
    fs::write(dir.path().join("secret"), "secret").unwrap();
    std::os::unix::fs::symlink("../../secret", root.join("templates/link")).unwrap();
    std::os::unix::fs::symlink("parts/a.j2", root.join("templates/inner")).unwrap();
    fs::write(root.join("templates/binary"), [0xff, 0xfe]).unwrap();
    let renderer = Renderer::new(root);
    (dir, renderer)
}

fn file(renderer: &Renderer, path: &str, scope: &Scope) -> Result<String, Fault> {
    renderer.file(path, &place(), scope).map_err(|halt| match halt {
        RenderHalt::Fault(fault) => *fault,
        pending => panic!("{pending:?}"),
    })
}

#[test]
fn template_files_are_rendered_as_ansible_does() {
    let (_dir, renderer) = project();
    let scope = vars(&[("nam", json!("x"))], &[]);
    assert_eq!(file(&renderer, "beside.j2", &scope).unwrap(), "1.2.3\n");
    assert_eq!(file(&renderer, "site.conf.j2", &scope).unwrap(), "server web1;\nok\n  part x\n");
    assert_eq!(file(&renderer, "optional.j2", &scope).unwrap(), "ab");
    assert_eq!(file(&renderer, "inner", &scope).unwrap(), "part x\n");
}

#[test]
fn faults_in_template_files_point_into_them() {
    let (_dir, renderer) = project();
    let scope = vars(&[("name", json!("x"))], &[]);
    let fault = file(&renderer, "site.conf.j2", &scope).unwrap_err();
    let at = fault.place.unwrap();
    assert!(at.file.ends_with("project/templates/parts/a.j2"), "{}", at.file);
    assert_eq!((at.line, at.column, at.width), (1, 9, 3));
    assert_eq!(fault.message, "there is no variable `nam`");
    assert_eq!(fault.causes, ["this template is used at book.yml:7:11"]);
}

#[test]
fn nothing_outside_of_the_project_is_read() {
    let (dir, renderer) = project();
    let scope = scope();
    let secret = dir.path().join("secret");
    for (path, why) in [
        ("../secret", "leads out"),
        ("a/../../secret", "leads out"),
        (secret.to_str().unwrap(), "is absolute"),
        ("link", "leads out of the project"),
        ("", "names no file"),
        ("parts", "is a directory"),
        ("binary", "not UTF-8"),
        ("site.conf.j", "there is no file"),
        ("out.j2", "leads out"),
        ("hidden.j2", "leads out of the project"),
        ("loop.j2", "recursion"),
    ] {
        let fault = file(&renderer, path, &scope).unwrap_err();
        assert!(fault.message.contains(why), "{path}: {}", fault.message);
        assert!(fault.place.is_some());
    }
    assert_eq!(file(&renderer, "site.conf.j", &scope).unwrap_err().hints, ["did you mean \"site.conf.j2\"?"]);
    assert!(renderer.local_file("../secret", &place(), &["files"]).is_err());
    assert!(renderer.local_file("beside.j2", &place(), &["files", ""]).unwrap().ends_with("project/beside.j2"));
}
