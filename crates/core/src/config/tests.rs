use serde_json::{Value, json};

use kthena_bridge_api::text::Image;

use super::*;

/// A configuration with every field.
const EVERYTHING: &str = include_str!("everything.yaml");

fn problem(text: &str) -> String {
    match Config::parse(text) {
        Err(invalid) => invalid.to_string(),
        Ok(config) => panic!("{text} is valid: {config:?}"),
    }
}

#[test]
fn nothing_is_the_defaults() {
    for text in ["", "# nothing\n---\n", "{}", "endpointPicker: {}"] {
        assert_eq!(Config::parse(text), Ok(Config::default()), "{text:?}");
    }
}

/// The defaults are made without a look at their form.
#[test]
fn the_defaults_are_valid() {
    let text = serde_json::to_string(&Config::default()).unwrap();
    assert_eq!(Config::parse(&text), Ok(Config::default()));
}

#[test]
fn everything_is_read_and_written() {
    let config = Config::parse(EVERYTHING).unwrap();
    let written = serde_json::to_string(&config).unwrap();
    assert_eq!(Config::parse(&written), Ok(config));
    insta::assert_snapshot!(
        serde_yaml::to_string(&serde_json::from_str::<Value>(&written).unwrap()).unwrap()
    );
}

#[test]
fn what_is_wrong_is_named_with_its_field() {
    let bad = [
        // The form of the file.
        "modelHeader",
        "modelHeader: none\nmodelHeader: none",
        "a: [",
        "modelHeeder: none",
        "endpointPicker: {imagePullSecret: x}",
        // Values.
        "modelHeader: yes",
        "failureMode: Open",
        "concurrency: 0",
        "concurrency: many",
        "logLevel: verbose",
        "logFormat: xml",
        "reachable: {intervalSeconds: 0}",
        "clusterDomain: Cluster.Local",
        "namespaces: [default, Not_A_Namespace]",
        "allowedGateways: [infra/*, 'a b']",
        "gateways: [{namespace: a, name: b, provider: isto}]",
        "gateways: [{namespace: a, name: b}]",
        "gateways: [{namespace: a, name: b, provider: istio}, {namespace: a, name: b, provider: gke}]",
        "defaultGateway: 'a/b/c'",
        "defaultGateway: ''",
        "hostnameTemplate: '{model}.example.com'",
        "hostnameTemplate: Example.com",
        "hostnameTemplate: 10.0.0.1",
        "pathTemplate: '/{nmae}'",
        "pathTemplate: 'models'",
        "pathTemplate: '//{name}'",
        // The endpoint pickers.
        "endpointPicker: {flavour: gei}",
        "endpointPicker: {image: 'registry/Epp:v1'}",
        "endpointPicker: {image: 'registry/epp:v1.6.0'}",
        "endpointPicker: {flavour: llm-d, image: 'registry/epp:v1', version: v0.8.1}",
        "endpointPicker: {version: latest}",
        "endpointPicker: {replicas: 0}",
        "endpointPicker: {replicas: 6}",
        "endpointPicker: {imagePullPolicy: Sometimes}",
        "endpointPicker: {imagePullSecrets: [{name: 'a b'}]}",
        "endpointPicker: {resources: {requests: {cpu: 1 core}}}",
        "endpointPicker: {resources: {requests: {memory: -1}}}",
        "endpointPicker: {resources: {requests: {memory: 2Gi}, limits: {memory: 1Gi}}}",
        "endpointPicker: {resources: {limits: {memroy: 1Gi}}}",
        "endpointPicker: {args: ['-v 4']}",
        "endpointPicker: {args: ['--v=4', '--pool-name=other']}",
        "endpointPicker: {env: [{name: A-B, value: c}]}",
        "endpointPicker: {env: [{name: A, value: [1]}]}",
        "endpointPicker: {env: [{name: POD_NAME, value: c}]}",
        "endpointPicker: {env: [{name: A, value: b}, {name: A, value: c}]}",
        "endpointPicker: {env: [{name: A, value: b, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]}",
        "endpointPicker: {env: [{name: A, valueFrom: {fieldRef: {fieldPath: spec.image}}}]}",
        "endpointPicker: {nodeSelector: {'a/b/c': d}}",
        "endpointPicker: {nodeSelector: {pool: 'a b'}}",
        "endpointPicker: {tolerations: [{key: a, operator: Exists, value: b}]}",
        "endpointPicker: {tolerations: [{effect: NoSchedule}]}",
        "endpointPicker: {tolerations: [{key: a, effect: NoExecutes}]}",
        "endpointPicker: {tolerations: [{key: a, tolerationSeconds: 3}]}",
        "endpointPicker: {priorityClassName: High Priority}",
        "endpointPicker: {clusterRole: 'a/b'}",
        "endpointPicker: {pluginsConfig: {plugins: [{type: queue-scorer}]}}",
        "endpointPicker: {pluginsConfig: {schedulingProfiles: []}}",
        "endpointPicker: {pluginsConfig: {plugins: [{type: a}, {type: a}], schedulingProfiles: [{name: b, plugins: []}]}}",
        "endpointPicker: {pluginsConfig: {requestHandler: {parsers: []}}}",
        "endpointPicker: {flavour: llm-d, pluginsConfig: {parser: {pluginRef: a}}}",
        "endpointPicker: {pluginsConfig: {dataLayer: {sources: [{pluginRef: metrics-data-source}]}}}",
        "endpointPicker: {networkPolicy: {gateways: [{}]}}",
        "endpointPicker: {networkPolicy: {gateways: [{podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}]}}",
        "endpointPicker: {networkPolicy: {metrics: [{ipBlock: {cidr: 10.0.0.0/33}}]}}",
        "endpointPicker: {networkPolicy: {metrics: [{ipBlock: {cidr: 10.0.0.0}}]}}",
        "endpointPicker: {networkPolicy: {moreEgress: [{podSelector: {matchExpressions: [{key: a, operator: In}]}}]}}",
        "endpointPicker: {networkPolicy: {apiServerPorts: []}}",
    ];
    let told: Vec<String> = bad
        .iter()
        .map(|text| format!("{text}\n  {}", problem(text)))
        .collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn a_pattern_fits_gateways() {
    let fits = |pattern: &str, gateway: &str| {
        let (namespace, name) = gateway.split_once('/').unwrap();
        GatewayPattern::new(pattern)
            .unwrap()
            .fits(namespace, name, "own")
    };
    for (pattern, gateway) in [
        ("infra/public", "infra/public"),
        ("infra/*", "infra/public"),
        ("*/public-*", "a/public-b"),
        ("*/*", "a/b"),
        ("*", "own/any"),
        ("public", "own/public"),
        ("infra/a*b*c", "infra/axbbxc"),
    ] {
        assert!(fits(pattern, gateway), "{pattern} {gateway}");
    }
    for (pattern, gateway) in [
        ("infra/public", "infra/publicly"),
        ("infra/*", "infrared/public"),
        ("*", "other/any"),
        ("public", "other/public"),
        ("infra/a*b*c", "infra/axbbx"),
    ] {
        assert!(!fits(pattern, gateway), "{pattern} {gateway}");
    }
}

#[test]
fn an_images_version_is_that_of_its_tag() {
    let version = |image: &str| Image::new(image).unwrap().version().map(|v| v.numbers());
    assert_eq!(version("registry:5000/a/epp:v1.4.1"), Some((1, 4)));
    assert_eq!(version("epp:1.3"), Some((1, 3)));
    assert_eq!(version("epp:v0.9.0-rc.2"), Some((0, 9)));
    assert_eq!(version("registry:5000/a/epp"), None);
    assert_eq!(version("epp:main"), None);
    let digest = format!("epp:v1.2.0@sha256:{}", "0".repeat(64));
    assert_eq!(version(&digest), Some((1, 2)));
}

#[test]
fn what_is_read_at_the_start_stays_until_a_restart() {
    let before = Config::default();
    let mut after = Config::parse(EVERYTHING).unwrap();
    assert_eq!(
        after.keep_from_start(&before),
        [
            "gateways",
            "namespaces",
            "reachable",
            "concurrency",
            "logFormat"
        ]
    );
    assert_eq!(after.namespaces, before.namespaces);
    let written = "{failureMode: FailClose, endpointPicker: {replicas: 2}}";
    let mut after = Config::parse(written).unwrap();
    assert_eq!(after.keep_from_start(&before), Vec::<&str>::new());
    assert_eq!(after, Config::parse(written).unwrap());
}

/// What a schema says of the field at a path.
fn at<'a>(schema: &'a Value, path: &str) -> &'a Value {
    path.split('.')
        .fold(schema, |schema, key| &schema["properties"][key])
}

#[test]
fn the_schema_tells_defaults_values_and_forms() {
    let schema = Config::schema().to_value();
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema.get("$defs"), None, "Helm takes it in as a part");
    assert_eq!(at(&schema, "clusterDomain")["default"], "cluster.local");
    assert_eq!(at(&schema, "clusterDomain")["pattern"], DomainName::PATTERN);
    assert_eq!(at(&schema, "endpointPicker.replicas")["maximum"], 5);
    let provider = &at(&schema, "gateways")["items"]["properties"]["provider"];
    assert_eq!(provider["enum"], json!(ProviderName::all()));
    let flavours = at(&schema, "endpointPicker.flavour");
    assert!(flavours.to_string().contains("llm-d"), "{flavours}");
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,80}|[-a-zA-Z0-9:{}\\[\\]'\"#, \n]{0,120}") {
        let _ = Config::parse(&text);
    }

    #[test]
    fn no_value_panics(
        field in proptest::sample::select(&[
            "defaultGateway", "hostnameTemplate", "pathTemplate", "clusterDomain", "logLevel",
            "endpointPicker.image", "endpointPicker.version", "endpointPicker.clusterRole",
        ][..]),
        value in "\\PC{0,40}|[-a-z0-9/.,:*{}@_=]{0,60}",
    ) {
        let value = Value::String(value);
        let config = match field.split_once('.') {
            Some((section, field)) => json!({section: {field: value}}),
            None => json!({field: value}),
        };
        if let Err(invalid) = Config::parse(&config.to_string()) {
            proptest::prop_assert_eq!(invalid.field, field);
        }
    }
}
