//! An operator that is confined to some namespaces.

use super::*;

/// A cluster in which all is as it has to be for an operator of two namespaces, as that one sees it: of the
/// cluster, it may only ask what is served. Its Gateways are one of its own and one of another namespace.
fn confined() -> Facts {
    let mut facts = good();
    facts.config = Ok(Config::parse(
        "{namespaces: [infra, team], gateways: [\
         {namespace: infra, name: inference-gateway, provider: istio}, \
         {namespace: shared, name: public, provider: istio}]}",
    )
    .unwrap());
    facts.elsewhere = [(("shared".to_owned(), "public".to_owned()), Err(forbidden()))].into();
    facts.definitions = Err(forbidden());
    facts.classes = Err(forbidden());
    facts.kthena = Err(forbidden());
    facts.istiod = Err(forbidden());
    let of = installed(&mut facts);
    of.operators = Err(forbidden());
    of.definition = Err(forbidden());
    let namespaces = ["infra", "team"].map(str::to_owned);
    let own = || Ok(Rights::Own(rights::of_confined_operator(PICKERS_ROLE)));
    of.rights = namespaces.clone().map(|name| (name, own())).into();
    of.picker_role = namespaces.map(|name| (name, Err(forbidden()))).into();
    facts
}

/// The same cluster, as its administrator sees it.
fn confined_for_administrators() -> Facts {
    let (seen, mut facts) = (good(), confined());
    facts.definitions = seen.definitions;
    facts.classes = seen.classes;
    facts.kthena = seen.kthena;
    facts.istiod = seen.istiod;
    let mut public = gateway("public", "istio", "True");
    public.metadata.namespace = Some("shared".to_owned());
    for found in facts.elsewhere.values_mut() {
        *found = Ok(Some(public.clone()));
    }
    let of = installed(&mut facts);
    let seen = seen.installed.unwrap();
    (of.operators, of.definition) = (seen.operators, seen.definition);
    for rights in of.rights.values_mut() {
        *rights = Ok(Rights::Role {
            rules: rights::of_confined_operator(PICKERS_ROLE),
            bound: true,
        });
    }
    for role in of.picker_role.values_mut() {
        *role = Ok(Some(rights::of_pickers()));
    }
    facts
}

#[test]
fn an_operator_of_namespaces_sees_that_it_works() {
    let report = judge(&confined());
    assert!(report.success(), "{}", report.text());
    insta::assert_snapshot!(plain(&report));
}

#[test]
fn an_administrator_sees_all_of_an_operator_of_namespaces() {
    let report = judge(&confined_for_administrators());
    assert!(report.success(), "{}", report.text());
    insta::assert_snapshot!(plain(&report));
    assert_eq!(ills(&confined_for_administrators()), Vec::<String>::new());
}

/// What changes for an operator of two namespaces, as its administrator sees it.
fn ills_of_confined_after(change: impl FnOnce(&mut Facts)) -> Vec<String> {
    let mut facts = confined_for_administrators();
    change(&mut facts);
    ills(&facts)
}

#[test]
fn an_operator_of_namespaces_needs_its_rights_in_each() {
    let without_routes = || {
        let mut rules = rights::of_confined_operator(PICKERS_ROLE);
        for rule in &mut rules {
            let resources = rule.resources.as_mut().unwrap();
            resources.retain(|resource| resource != "httproutes" && resource != "pods");
        }
        rules
    };
    let missing = "× operator-rights: the operator may not list pods, watch pods, \
        list httproutes.gateway.networking.k8s.io, watch httproutes.gateway.networking.k8s.io, \
        create httproutes.gateway.networking.k8s.io and 2 more in team";
    assert_eq!(
        ills_of_confined_after(|facts| {
            *rights_in(facts, "team") = Ok(Rights::Role {
                rules: without_routes(),
                bound: true,
            });
        }),
        [missing]
    );
    // The operator itself sees the same.
    let mut facts = confined();
    let before = ills(&facts);
    *rights_in(&mut facts, "team") = Ok(Rights::Own(without_routes()));
    assert!(!judge(&facts).success());
    let after = ills(&facts);
    let new: Vec<_> = after.iter().filter(|ill| !before.contains(ill)).collect();
    assert_eq!(new, [missing]);

    assert_eq!(
        ills_of_confined_after(|facts| *rights_in(facts, "infra") = Ok(Rights::NoRole)),
        ["× operator-rights: there is no Role kthena-bridge in infra"]
    );
    assert_eq!(
        ills_of_confined_after(|facts| {
            *rights_in(facts, "infra") = Ok(Rights::Role {
                rules: rights::of_confined_operator(PICKERS_ROLE),
                bound: false,
            });
        }),
        ["× operator-rights: no RoleBinding kthena-bridge binds the operator to its role in infra"]
    );
    assert_eq!(
        ills_of_confined_after(|facts| {
            let roles = &mut installed(facts).picker_role;
            roles.insert("infra".to_owned(), Ok(None));
            roles.insert("team".to_owned(), Ok(Some(Vec::new())));
        })
        .iter()
        .map(|ill| ill.split(" list ").next().unwrap())
        .collect::<Vec<_>>(),
        [
            "× endpoint-picker-rights: there is no Role kthena-bridge-endpoint-picker in infra",
            "× endpoint-picker-rights: by Role kthena-bridge-endpoint-picker, endpoint pickers may not get pods,",
        ]
    );
}

#[test]
fn an_operator_of_namespaces_knows_only_the_gateways_that_it_is_told_of() {
    let add = |facts: &mut Facts, name: &str| {
        let gateways = facts.gateways.as_mut().unwrap();
        gateways.push(gateway(name, "istio", "True"));
    };
    let said = "gateway-configured: Gateway infra/another is not among gateways in the operator's configuration";
    for mut facts in [confined(), confined_for_administrators()] {
        add(&mut facts, "another");
        let warning = format!("‼ {said}");
        assert!(ills(&facts).contains(&warning), "{:?}", ills(&facts));
        assert!(judge(&facts).success());
        let programmed = ("True", "Programmed");
        for source in [
            serving_through("demo", "infra/another"),
            exposure("demo", "another", programmed).into(),
        ] {
            installed(&mut facts).sources = Ok(vec![source]);
            let failed = format!("× {said}");
            assert!(ills(&facts).contains(&failed), "{:?}", ills(&facts));
            assert!(!judge(&facts).success());
        }
    }
    let mut facts = confined_for_administrators();
    add(&mut facts, "another");
    facts.config.as_mut().unwrap().default_gateway =
        Config::parse("defaultGateway: infra/another:http")
            .unwrap()
            .default_gateway;
    assert_eq!(ills(&facts), [format!("× {said}")]);
    let text = plain(&judge(&facts));
    let line = "gateways: [{namespace: infra, name: another, provider: istio}]";
    assert!(text.contains(line), "{text}");

    let public = || ("shared".to_owned(), "public".to_owned());
    assert_eq!(
        ills_of_confined_after(|facts| {
            facts.elsewhere.insert(public(), Ok(None));
        }),
        [
            "‼ gateway-configured: Gateway shared/public does not exist, and is among gateways in the operator's \
          configuration"
        ]
    );
    assert_eq!(
        ills_of_confined_after(|facts| {
            facts.classes = Ok(vec![class(
                "istio",
                "gateway.envoyproxy.io/gatewayclass-controller",
            )]);
            facts.elsewhere.clear();
        }),
        [
            "‼ gateway-configured: Gateway infra/inference-gateway is envoy-gateway's by its GatewayClass, and \
          istio's by the operator's configuration"
        ]
    );
    // Without any, one has to be made, or named.
    assert_eq!(
        ills_of_confined_after(|facts| {
            facts.elsewhere.clear();
            facts.gateways = Ok(Vec::new());
        }),
        ["‼ gateways: there is no Gateway"]
    );
    // What its own may not be read is told beside what is known of the others.
    let mut facts = confined();
    facts.gateways = Err(forbidden());
    assert!(judge(&facts).success());
    let text = plain(&judge(&facts));
    assert!(text.contains("‼ Gateways: you may not read this"), "{text}");
    assert!(text.contains("shared/public"), "{text}");
}

#[test]
fn several_operators_may_be_confined_to_namespaces_of_their_own() {
    assert_eq!(
        ills_of_confined_after(|facts| {
            let operators = installed(facts).operators.as_mut().unwrap();
            operators.push(workload("kthena-bridge", "x"));
        }),
        [
            "‼ operator: there are several operators: kthena-bridge-system/kthena-bridge, \
          kthena-bridge-system/kthena-bridge"
        ]
    );
}
