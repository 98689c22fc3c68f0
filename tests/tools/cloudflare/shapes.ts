// The calls of the tunnel, in the types of the vendor's client. Literals are held against them without members to spare:
// what is sent has no member that the client does not know, and neither has an answer of the stand-in.
import type { CloudflareTunnel, ResponseInfo } from "cloudflare/resources/shared";
import type { Zone } from "cloudflare/resources/zones/zones";
import type {
  RecordBatchParams, RecordBatchResponse, RecordCreateParams, RecordListParams, RecordResponse,
} from "cloudflare/resources/dns/records";
import type {
  CloudflaredCreateParams, CloudflaredListParams,
} from "cloudflare/resources/zero-trust/tunnels/cloudflared/cloudflared";
import type {
  ConfigurationGetResponse, ConfigurationUpdateParams,
} from "cloudflare/resources/zero-trust/tunnels/cloudflared/configurations";
import type { Client } from "cloudflare/resources/zero-trust/tunnels/cloudflared/connections";
import type { TokenGetResponse } from "cloudflare/resources/zero-trust/tunnels/cloudflared/token";
import type {
  ServiceCreateParams, ServiceCreateResponse, ServiceListParams, ServiceListResponse, ServiceUpdateParams,
  ServiceUpdateResponse,
} from "cloudflare/resources/connectivity/directory/services";

// What the client puts into the path.
type Sent<T> = T extends unknown ? Omit<T, "account_id" | "zone_id"> : never;
type None = Record<string, never>;
type Envelope<T> = { success: true; errors: ResponseInfo[]; messages: ResponseInfo[]; result: T };
type Page<T> = Envelope<T[]> & {
  result_info: { page?: number; per_page?: number; count?: number; total_count?: number; total_pages?: number };
};

// The client wants a host name of every rule; cloudflared refuses a last rule that has one.
type Rules<C> = C extends { ingress?: (infer R)[] }
  ? Omit<C, "ingress"> & { ingress?: (R | { service: string })[]; "warp-routing"?: { enabled?: boolean } }
  : never;
type Configured = Omit<ConfigurationGetResponse, "config"> & {
  config?: Rules<NonNullable<ConfigurationGetResponse["config"]>> | null;
};
type Configure = { config?: Rules<NonNullable<ConfigurationUpdateParams["config"]>> };
// The API answers a creation with these too, which the client leaves to another call.
type Created = CloudflareTunnel & { token?: string; credentials_file?: Record<string, string> };

type Call<Name extends string, Query, Body, Answer> = { call: Name; query: Query; body: Body; answer: Answer };
type Tunnels = "/accounts/{id}/cfd_tunnel";
type Services = "/accounts/{id}/connectivity/directory/services";

export type Exchange =
  | Call<"GET /zones/{id}", None, null, Envelope<Partial<Omit<Zone, "account">> & { account?: { id?: string; name?: string } }>>
  | Call<`GET ${Tunnels}`, Sent<CloudflaredListParams>, null, Page<CloudflareTunnel>>
  | Call<`POST ${Tunnels}`, None, Sent<CloudflaredCreateParams>, Envelope<Created>>
  | Call<`DELETE ${Tunnels}/{id}`, None, null, Envelope<CloudflareTunnel>>
  | Call<`GET ${Tunnels}/{id}/token`, None, null, Envelope<TokenGetResponse>>
  | Call<`GET ${Tunnels}/{id}/configurations`, None, null, Envelope<Configured>>
  | Call<`PUT ${Tunnels}/{id}/configurations`, None, Configure, Envelope<Configured>>
  | Call<`GET ${Tunnels}/{id}/connections`, None, null, Page<Client>>
  | Call<`DELETE ${Tunnels}/{id}/connections`, None, null, Envelope<null>>
  | Call<"GET /zones/{id}/dns_records", Sent<RecordListParams>, null, Page<RecordResponse>>
  | Call<"POST /zones/{id}/dns_records", None, Sent<RecordCreateParams>, Envelope<RecordResponse>>
  | Call<"POST /zones/{id}/dns_records/batch", None, Sent<RecordBatchParams>, Envelope<RecordBatchResponse>>
  | Call<`GET ${Services}`, Sent<ServiceListParams>, null, Page<ServiceListResponse>>
  | Call<`POST ${Services}`, None, Sent<ServiceCreateParams>, Envelope<ServiceCreateResponse>>
  | Call<`PUT ${Services}/{id}`, None, Sent<ServiceUpdateParams>, Envelope<ServiceUpdateResponse>>
  | Call<`DELETE ${Services}/{id}`, None, null, Envelope<null>>;
