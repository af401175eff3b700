// A real OpenID provider for one test: PORT is its own, CONSOLE the address of the console that signs in with it.
import { Provider } from 'oidc-provider';

const issuer = `http://127.0.0.1:${process.env.PORT}`;
const console_ = process.env.CONSOLE;
const people = {
  ada: { sub: 'ada', email: 'ada@acme.test', email_verified: true, name: 'Ada Lovelace', groups: ['admins'] },
  bob: { sub: 'bob', email: 'bob@elsewhere.test', email_verified: true, name: 'Bob', groups: ['admins'] },
};
const provider = new Provider(issuer, {
  clients: [{
    client_id: 'sublet',
    client_secret: process.env.CLIENT_SECRET,
    redirect_uris: [`${console_}/oidc/real/callback`],
    post_logout_redirect_uris: [`${console_}/login`],
    grant_types: ['authorization_code'],
    response_types: ['code'],
    backchannel_logout_uri: `${console_}/oidc/real/backchannel`,
    backchannel_logout_session_required: true,
  }],
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'], groups: ['groups'] },
  scopes: ['openid', 'email', 'profile', 'groups'],
  pkce: { required: () => true },
  features: {
    devInteractions: { enabled: true },
    backchannelLogout: { enabled: true },
    rpInitiatedLogout: { enabled: true },
  },
  cookies: { keys: ['for-tests-only'] },
  ttl: { IdToken: 300, Session: 3600, Grant: 3600, AccessToken: 300, Interaction: 300 },
  // The library refuses loopback targets of its own accord; the console of this test is one.
  fetch: (url, options) => { delete options.dispatcher; return globalThis.fetch(url, options); },
  findAccount: (context, id) => people[id] && { accountId: id, claims: async () => people[id] },
});
for (const name of ['backchannel.error', 'server_error', 'grant.error']) {
  provider.on(name, (context, error) => console.error(name, error?.message ?? ''));
}
provider.listen(Number(process.env.PORT), '127.0.0.1', () => console.log('ready'));
