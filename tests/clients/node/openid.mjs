// A certified OpenID provider that is not ours, with one person who may sign in with any password.
// Usage: openid.mjs PAGE_URL USER GROUP   prints "issuer URL" when it is ready.
import http from "node:http";
import Provider from "oidc-provider";

const [page, user, group] = process.argv.slice(2);
const server = http.createServer();
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
const issuer = `http://127.0.0.1:${server.address().port}`;
const provider = new Provider(issuer, {
    clients: [{
        client_id: "desk",
        client_secret: "a secret of some length",
        redirect_uris: [`${page}/sign-in/openid/return`],
        grant_types: ["authorization_code"],
        response_types: ["code"],
    }],
    claims: { openid: ["sub"], profile: ["preferred_username"], groups: ["groups"] },
    pkce: { required: () => true },
    findAccount: (_, id) => ({
        accountId: id,
        claims: () => ({ sub: id, preferred_username: user, groups: [group] }),
    }),
});
server.on("request", provider.callback());
console.log(`issuer ${issuer}`);
