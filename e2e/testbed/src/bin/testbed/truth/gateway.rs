//! Gateways and their listeners.

use std::time::Duration;

use kube::Api;
use kube::api::{DeleteParams, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use testbed::{Error, Model, Result};

use super::case::{Case, GATEWAY, expose, gateway_yaml};
use super::probe::Question;
use super::{MODEL, NOT_TRUE, Situation, answers, fails};

pub(super) fn situations() -> Vec<Situation> {
    let no_address = fails("Accepted", "GatewayNotProgrammed");
    let not_allowed = fails("NotAllowedByListeners", "RouteNotAccepted");
    vec![
        // Nothing is written for what is not there: what was serving goes on.
        Situation::new(
            "Gateway of the annotation missing",
            answers("GatewayNotFound", "Programmed"),
            async |case, model| moved_to(case, model, "nowhere").await,
        ),
        Situation::new(
            "listener of the annotation missing",
            answers("ListenerNotFound", "Programmed"),
            async |case, model| moved_to(case, model, "inference-gateway:none").await,
        ),
        Situation::from_nothing(
            "Gateway missing from the start",
            fails("GatewayNotFound", NOT_TRUE),
            missing,
        ),
        Situation::new(
            "Gateway deleted",
            fails("GatewayNotFound", "GatewayNotProgrammed"),
            deleted,
        ),
        Situation::from_nothing(
            "no Gateway named, and there are two",
            fails("GatewayNotSpecified", NOT_TRUE),
            not_named,
        ),
        Situation::from_nothing(
            "a second Gateway appears",
            answers("Accepted", "Programmed"),
            second_appears,
        ),
        Situation::new("Gateway without an address", no_address, without_address),
        Situation::from_nothing(
            "one of two Gateways without an address",
            no_address,
            one_of_two_without_address,
        ),
        Situation::from_nothing(
            "listener renamed",
            fails("ListenerNotFound", "RouteNotAccepted"),
            renamed,
        ),
        Situation::from_nothing(
            "namespace no longer allowed",
            not_allowed,
            namespace_not_allowed,
        ),
        Situation::new(
            "listener that takes no HTTPRoutes",
            not_allowed,
            async |case, model| {
                let kinds = "allowedRoutes: {kinds: [{kind: GRPCRoute}]}";
                changed(case, model, &format!("{HTTP}, {kinds}")).await
            },
        ),
        Situation::new("listener of TCP", not_allowed, async |case, model| {
            changed(case, model, "name: http, protocol: TCP").await
        }),
        Situation::from_nothing(
            "host name that no listener has any more",
            fails("HostnameNotAllowed", "RouteNotAccepted"),
            hostname_gone,
        ),
        Situation::from_nothing(
            "host name changed to one that no listener has",
            answers("HostnameNotAllowed", "Programmed"),
            hostname_changed,
        ),
        Situation::new(
            "Gateway that nobody implements",
            fails("Accepted", "NotReported"),
            unimplemented,
        )
        // Silence is "not yet" for 30 s.
        .within(Duration::from_secs(45)),
    ]
}

/// The listener that the bed's Gateways have.
const HTTP: &str = "name: http, protocol: HTTP";

/// Gives the usual Gateway another listener.
async fn set_listener(case: &Case<'_>, listener: &str) -> Result<()> {
    case.apply(&gateway_yaml(GATEWAY, listener)).await
}

async fn changed(case: &Case<'_>, _: &Model<'_>, listener: &str) -> Result<()> {
    case.broken_by(set_listener(case, listener)).await;
    case.undone_by(set_listener(case, HTTP)).await;
    Ok(())
}

async fn renamed(case: &Case<'_>) -> Result<()> {
    case.exposed(&[("gateway", "inference-gateway:http")])
        .await?;
    case.broken_by(set_listener(case, "name: renamed, protocol: HTTP"))
        .await;
    case.undone_by(set_listener(case, HTTP)).await;
    Ok(())
}

async fn moved_to(case: &Case<'_>, model: &Model<'_>, gateway: &str) -> Result<()> {
    case.broken_by(model.annotate(&[("gateway", Some(gateway))]))
        .await;
    case.undone_by(model.annotate(&[("gateway", Some(GATEWAY))]))
        .await;
    Ok(())
}

async fn missing(case: &Case<'_>) -> Result<()> {
    let model = case.active().await?;
    case.ask(|question| question.gateways.clear());
    case.broken_by(expose(&model, &[("gateway", "late")])).await;
    case.undone_by(async {
        let late = case.namespace.gateway("late").await?;
        case.ask(|question| question.gateways = vec![late]);
        Ok(())
    })
    .await;
    Ok(())
}

async fn deleted(case: &Case<'_>, _: &Model<'_>) -> Result<()> {
    case.broken_by(delete_gateway(case, GATEWAY)).await;
    case.undone_by(async {
        let again = case.namespace.gateway(GATEWAY).await?;
        case.ask(|question| question.gateways = vec![again]);
        Ok(())
    })
    .await;
    Ok(())
}

async fn delete_gateway(case: &Case<'_>, name: &str) -> Result<()> {
    let resource = resource("Gateway");
    let api: Api<DynamicObject> =
        Api::namespaced_with(case.client()?, case.namespace.name(), &resource);
    let deleted = api.delete(name, &DeleteParams::default()).await;
    deleted
        .map_err(|e| Error::Other(format!("deleting Gateway {name}: {e}")))
        .map(drop)
}

fn resource(kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(
        "gateway.networking.k8s.io",
        "v1",
        kind,
    ))
}

async fn not_named(case: &Case<'_>) -> Result<()> {
    let model = case.active().await?;
    case.namespace.gateway("another").await?;
    case.broken_by(model.annotate(&[("expose", Some("true"))]))
        .await;
    case.undone_by(model.annotate(&[("gateway", Some(GATEWAY))]))
        .await;
    Ok(())
}

/// It moves nothing, although the Model names none.
async fn second_appears(case: &Case<'_>) -> Result<()> {
    let model = case.active().await?;
    model.annotate(&[("expose", Some("true"))]).await?;
    case.works().await?;
    case.broken_by(async { case.namespace.gateway("another").await.map(drop) })
        .await;
    case.undone_by(delete_gateway(case, "another")).await;
    Ok(())
}

async fn without_address(case: &Case<'_>, _: &Model<'_>) -> Result<()> {
    case.broken_by(take_address(case, GATEWAY)).await;
    case.undone_by(give_address(case, 0, GATEWAY)).await;
    Ok(())
}

async fn one_of_two_without_address(case: &Case<'_>) -> Result<()> {
    let one = case.namespace.gateway("one").await?;
    let two = case.namespace.gateway("two").await?;
    let model = case.namespace.model(MODEL).await?;
    let question = Question {
        gateways: vec![one, two],
        ..Question::of(&model, one)
    };
    case.observe(&model, question)?;
    expose(&model, &[("gateway", "one,two")]).await?;
    case.works().await?;
    case.broken_by(take_address(case, "two")).await;
    case.undone_by(give_address(case, 1, "two")).await;
    Ok(())
}

/// Its address becomes the name of a Service that does not exist.
async fn take_address(case: &Case<'_>, name: &str) -> Result<()> {
    let address = "[{type: Hostname, value: nowhere.example.com}]";
    let gateway = gateway_yaml(name, HTTP);
    case.apply(&format!("{gateway}  addresses: {address}\n"))
        .await
}

/// The address may be another one.
async fn give_address(case: &Case<'_>, at: usize, name: &str) -> Result<()> {
    case.apply(&gateway_yaml(name, HTTP)).await?;
    let address = case.gateway_address(name).await?;
    case.ask(|question| {
        if let Some(gateway) = question.gateways.get_mut(at) {
            *gateway = address;
        }
    });
    Ok(())
}

/// The Gateway is in another namespace than the Model.
async fn namespace_not_allowed(case: &Case<'_>) -> Result<()> {
    let shared = case.bed.namespace("truth-gateway").await?;
    let allow = async |from: &str| {
        let allowed = format!("allowedRoutes: {{namespaces: {{from: {from}}}}}");
        let yaml = gateway_yaml(GATEWAY, &format!("{HTTP}, {allowed}"));
        shared.apply(&yaml).await.map(drop)
    };
    allow("All").await?;
    let gateway = case.bed.gateway_address(shared.name(), GATEWAY).await?;
    let model = case.namespace.model(MODEL).await?;
    case.observe(&model, Question::of(&model, gateway))?;
    let name = format!("{}/{GATEWAY}", shared.name());
    expose(&model, &[("gateway", &name)]).await?;
    case.works().await?;
    case.broken_by(allow("Same")).await;
    case.undone_by(allow("All")).await;
    Ok(())
}

/// A Model that is exposed for one host, on a listener with these fields.
async fn exposed_for_host<'b>(case: &Case<'b>, listener: &str) -> Result<Model<'b>> {
    set_listener(case, listener).await?;
    let gateway = case.gateway_address(GATEWAY).await?;
    let model = case.namespace.model(MODEL).await?;
    let question = Question {
        host: Some("demo.example.com".to_owned()),
        ..Question::of(&model, gateway)
    };
    case.observe(&model, question)?;
    expose(&model, &[("hostnames", "demo.example.com")]).await?;
    case.works().await?;
    Ok(model)
}

async fn hostname_gone(case: &Case<'_>) -> Result<()> {
    exposed_for_host(case, HTTP).await?;
    let other = format!("{HTTP}, hostname: '*.example.org'");
    case.broken_by(set_listener(case, &other)).await;
    case.undone_by(set_listener(case, HTTP)).await;
    Ok(())
}

async fn hostname_changed(case: &Case<'_>) -> Result<()> {
    let listener = format!("{HTTP}, hostname: '*.example.com'");
    let model = exposed_for_host(case, &listener).await?;
    let to = async |host: &str| model.annotate(&[("hostnames", Some(host))]).await;
    case.broken_by(to("demo.example.org")).await;
    case.undone_by(to("demo.example.com")).await;
    Ok(())
}

async fn unimplemented(case: &Case<'_>, model: &Model<'_>) -> Result<()> {
    // The class is of the whole cluster, so it is called like the namespace.
    let class = case.namespace.name();
    case.apply(&format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: {class}}}
spec: {{controllerName: example.com/nobody}}
---{}",
        gateway_yaml("unimplemented", HTTP).replace("istio", class)
    ))
    .await?;
    case.broken_by(async {
        // It never gets an address.
        case.ask(|question| question.gateways.clear());
        model.annotate(&[("gateway", Some("unimplemented"))]).await
    })
    .await;
    case.undone_by(async {
        let works = case.gateway_address(GATEWAY).await?;
        case.ask(|question| question.gateways = vec![works]);
        model.annotate(&[("gateway", Some(GATEWAY))]).await
    })
    .await;
    let classes: Api<DynamicObject> = Api::all_with(case.client()?, &resource("GatewayClass"));
    let deleted = classes.delete(class, &DeleteParams::default()).await;
    deleted
        .map_err(|e| Error::Other(format!("deleting GatewayClass {class}: {e}")))
        .map(drop)
}
